"""Which token is used when, how it is renewed, and when a person has to log in again."""

import asyncio

import pytest
import structlog

from src.models.errors import VenueError
from src.venues.stockbit import auth as module
from src.venues.stockbit.auth import REFUSALS_MOST
from src.venues.stockbit.token_file import TokenFile
from src.venues.stockbit.tokens import TokenError
from tests.support.stockbit_account import DAY_MS, NOW_MS, REFUSED, access, credentials, pair, waits


class TestAtTheStart:
    async def test_without_a_token_it_waits_for_one(self, make):
        auth = make()
        assert auth.state == "no token"
        assert not auth.has_token
        assert await waits(auth)
        auth.hand_in(access())
        assert (await credentials(auth)).user_id.get_secret_value() == "1234567"

    async def test_the_token_of_the_settings(self, make, rest):
        text = access()
        shown = await credentials(make(pair(text)))
        assert shown.access_token.get_secret_value() == text
        assert shown.key.get_secret_value() == "key"
        assert rest.asked == [("key", text)]

    async def test_the_newer_of_settings_and_file(self, make, tmp_path):
        old, new = access(NOW_MS - DAY_MS // 2), access(NOW_MS)
        TokenFile(tmp_path).write(pair(new))
        assert (await credentials(make(pair(old)))).access_token.get_secret_value() == new
        TokenFile(tmp_path).write(pair(old))
        assert (await credentials(make(pair(new)))).access_token.get_secret_value() == new

    async def test_an_expired_one_without_refresh_needs_a_person(self, make):
        auth = make(pair(access(NOW_MS - 2 * DAY_MS), refresh=None))
        assert auth.state == "needs login"
        assert await waits(auth)

    async def test_an_expired_one_with_refresh_is_renewed_first(self, make, rest):
        new = access()
        rest.renewals = [pair(new, "rt-1")]
        shown = await credentials(make(pair(access(NOW_MS - 2 * DAY_MS))))
        assert shown.access_token.get_secret_value() == new
        assert [what for what, _ in rest.asked] == ["refresh", "key"]

    def test_a_setting_that_is_no_token_is_told_once_without_it(self, make):
        with structlog.testing.capture_logs() as logs:
            auth = make(pair("not-a-token-at-all"))
        assert auth.state == "needs login"
        assert [line["event"] for line in logs] == ["stockbit_token_not_usable"]
        assert "not-a-token" not in str(logs)


class TestHandingIn:
    def test_it_is_kept_and_told_without_it(self, make, tmp_path):
        auth, text = make(), access()
        taken = auth.hand_in(f"Bearer {text}", "rt-9")
        assert (taken.expires_ms, taken.can_refresh, taken.kept) == (NOW_MS + DAY_MS, True, True)
        assert TokenFile(tmp_path).read() == pair(text, "rt-9")
        assert text not in str(auth.status())
        assert "1234567" not in str(auth.status())

    @pytest.mark.parametrize(
        ("text", "refresh"), [("nonsense", None), (access(NOW_MS - 2 * DAY_MS), None), (access(), "a b")]
    )
    def test_what_cannot_be_used_changes_nothing(self, make, tmp_path, text, refresh):
        auth = make()
        with pytest.raises(TokenError):
            auth.hand_in(text, refresh)
        assert auth.state == "no token"
        assert TokenFile(tmp_path).read() is None


class TestRefusals:
    async def test_without_a_refresh_token_one_refusal_is_enough(self, make, rest):
        rest.keys = [REFUSED]
        auth = make(pair(refresh=None))
        assert await waits(auth)
        assert auth.state == "needs login"
        assert len(rest.asked) == 1  # the same token is not shown again

    async def test_a_refused_token_is_renewed_and_both_tokens_rotate(self, make, rest, tmp_path):
        first, second = access(), access()
        rest.keys, rest.renewals = [REFUSED], [pair(second, "rt-1")]
        shown = await credentials(make(pair(first)))
        assert rest.asked == [("key", first), ("refresh", "rt-0"), ("key", second)]
        assert shown.access_token.get_secret_value() == second
        assert TokenFile(tmp_path).read() == pair(second, "rt-1")

    async def test_after_three_in_a_row_a_person_is_asked(self, make, rest):
        rest.keys = [REFUSED] * 9
        rest.renewals = [pair(access(), f"rt-{n}") for n in range(1, 9)]
        auth = make(pair())
        with structlog.testing.capture_logs() as logs:
            assert await waits(auth)
        assert auth.state == "needs login"
        assert auth.refusals == REFUSALS_MOST
        assert [what for what, _ in rest.asked].count("key") == REFUSALS_MOST
        assert [line["event"] for line in logs].count("stockbit_needs_login") == 1
        assert "POST /api/stockbit/token" in auth.status()["remedy"]

    async def test_a_new_token_begins_the_count_anew(self, make, rest):
        rest.keys = [REFUSED]
        auth = make(pair(refresh=None))
        assert await waits(auth)
        auth.hand_in(access())
        assert auth.refusals == 0
        assert (await credentials(auth)).key.get_secret_value() == "key"

    async def test_data_begins_the_count_anew(self, make, rest):
        auth = make(pair())
        rest.renewals = [pair(access(), f"rt-{n}") for n in range(1, 20)]
        for _ in range(3 * REFUSALS_MOST):
            await credentials(auth)
            auth.accepted()
            auth.refused("you are not authorized")
        assert auth.state == "ready"
        assert auth.refusals == 1

    async def test_refusals_by_socket_and_by_rest_count_together(self, make, rest):
        rest.renewals = [pair(access(), f"rt-{n}") for n in range(1, 9)]
        auth = make(pair())
        await credentials(auth)
        auth.refused("no")
        rest.keys = [REFUSED]
        await credentials(auth)
        auth.refused("no")
        assert auth.state == "needs login"

    async def test_a_connection_with_an_old_token_says_nothing_about_the_new_one(self, make):
        auth = make(pair())
        await credentials(auth)
        auth.hand_in(access(NOW_MS + 1))
        auth.refused("you are not authorized")
        auth.accepted()
        assert (auth.state, auth.refusals) == ("ready", 0)

    async def test_a_refused_refresh_token_needs_a_person(self, make, rest):
        rest.renewals = [REFUSED]
        auth = make(pair(access(NOW_MS - 2 * DAY_MS)))
        assert await waits(auth)
        assert auth.state == "needs login"

    async def test_a_venue_out_of_reach_is_no_refusal(self, make, rest):
        rest.keys = [VenueError("502")]
        auth = make(pair())
        with pytest.raises(VenueError):
            await credentials(auth)
        assert (auth.state, auth.refusals) == ("ready", 0)
        await credentials(auth)

    async def test_out_of_reach_while_renewing_a_dead_token(self, make, rest):
        rest.renewals = [VenueError("502"), pair(access(), "rt-1")]
        auth = make(pair(access(NOW_MS - 2 * DAY_MS)))
        with pytest.raises(VenueError):
            await credentials(auth)
        await credentials(auth)
        assert auth.state == "ready"


class TestKeepingFresh:
    @pytest.fixture
    def keeping(self, monkeypatch):
        monkeypatch.setattr(module, "LOOK_EVERY_S", 0.001)

        async def kept(auth, until):
            stopping = asyncio.Event()
            task = asyncio.create_task(auth.keep_fresh(stopping))
            for _ in range(2_000):
                if until() or task.done():
                    break
                await asyncio.sleep(0.001)
            stopping.set()
            await asyncio.wait_for(task, 5)

        return kept

    async def test_ahead_of_the_expiry(self, make, rest, clock, keeping):
        second = access(NOW_MS + DAY_MS)
        rest.renewals = [pair(second, "rt-1")]
        auth = make(pair())
        clock.advance(86_400 - 16 * 60)
        assert not auth._is_due()
        clock.advance(90)
        await keeping(auth, lambda: rest.asked)
        assert rest.asked == [("refresh", "rt-0")]
        assert (await credentials(auth)).access_token.get_secret_value() == second

    async def test_of_short_lived_tokens_in_proportion(self, make, rest, clock, keeping):
        rest.renewals = [pair(access(NOW_MS + 9_000, 10_000), "rt-1")]
        auth = make(pair(access(NOW_MS, 10_000)))
        clock.advance(8.5)
        await asyncio.sleep(0)
        assert not auth._is_due()
        clock.advance(0.6)
        await keeping(auth, lambda: rest.asked)
        assert rest.asked == [("refresh", "rt-0")]

    async def test_failures_are_repeated_with_pauses_while_the_token_lives(self, make, rest, clock, keeping):
        rest.renewals = [VenueError("502"), VenueError("502"), pair(access(NOW_MS + DAY_MS), "rt-1")]
        auth = make(pair())
        clock.advance(86_400 - 600)
        await keeping(auth, lambda: len(rest.asked) >= 2)
        assert len(rest.asked) == 1
        await credentials(auth)  # the old one is still good
        clock.advance(31)
        await keeping(auth, lambda: len(rest.asked) >= 3)
        clock.advance(61)
        await keeping(auth, lambda: auth.status()["expires_in_s"] > 3600)
        assert [what for what, _ in rest.asked].count("refresh") == 3
        assert auth.state == "ready"

    async def test_tokens_handed_in_meanwhile_win(self, make, rest, clock, tmp_path):
        newest = access(NOW_MS + 5)
        auth = make(pair(access(NOW_MS - 2 * DAY_MS)))

        async def refresh(_):
            auth.hand_in(newest)
            return pair(access(NOW_MS + 1), "rt-1")

        rest.refresh = refresh
        assert (await credentials(auth)).access_token.get_secret_value() == newest
        assert TokenFile(tmp_path).read() == pair(newest, None)

    async def test_a_full_disk_does_not_stop_it(self, make, rest, tmp_path, monkeypatch):
        monkeypatch.setattr(TokenFile, "write", lambda *_: False)
        rest.keys, rest.renewals = [REFUSED], [pair(access(), "rt-1")]
        auth = make(pair())
        await credentials(auth)
        assert auth.state == "ready"
