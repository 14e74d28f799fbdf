"""Moments in which two things happen to the account at once, and venues that answer strangely."""

import asyncio

import pytest
import structlog

from src.models.errors import VenueError
from src.venues.stockbit import auth as module
from src.venues.stockbit.auth import REFUSALS_MOST, RETRY_CAP_S, RETRY_FIRST_S
from src.venues.stockbit.simulator.accounts import make_token
from src.venues.stockbit.token_file import TokenFile
from tests.support.stockbit_account import DAY_MS, NOW_MS, REFUSED, access, credentials, pair, waits


def of(shown):
    return shown.access_token.get_secret_value()


class TestAtOnce:
    async def test_two_connections_renew_a_dead_token_once(self, make, rest):
        second = access(NOW_MS)
        rest.renewals = [pair(second, "rt-1")]
        auth = make(pair(access(NOW_MS - 2 * DAY_MS)))
        shown = await asyncio.gather(credentials(auth), credentials(auth))
        assert [of(one) for one in shown] == [second, second]
        assert [what for what, _ in rest.asked] == ["refresh", "key", "key"]

    async def test_the_guard_and_a_connection_do_not_both_use_the_refresh_token(self, make, rest, clock, monkeypatch):
        """It is good for one use; whoever comes second with it would be told to log in again."""
        monkeypatch.setattr(module, "LOOK_EVERY_S", 0.001)
        rest.renewals = [pair(access(NOW_MS + DAY_MS), "rt-1")]
        auth = make(pair())
        clock.advance(86_400 - 60)
        stopping = asyncio.Event()
        guard = asyncio.create_task(auth.keep_fresh(stopping))
        await asyncio.gather(*(credentials(auth) for _ in range(5)))
        stopping.set()
        await asyncio.wait_for(guard, 5)
        assert [shown for what, shown in rest.asked if what == "refresh"] == ["rt-0"]
        assert auth.state == "ready"

    async def test_a_token_handed_in_while_a_key_is_fetched_leaves_key_and_token_together(self, make, rest):
        first, second = access(NOW_MS), access(NOW_MS + 1)
        auth = make(pair(first))

        async def key(shown):
            auth.hand_in(second)
            return await type(rest).key(rest, shown)

        rest.key = key
        assert of(await credentials(auth)) == first, "the key was given for this one"
        auth.refused("you are not authorized")
        assert (auth.state, auth.refusals) == ("ready", 0), "and its end says nothing about the new one"
        del rest.key
        assert of(await credentials(auth)) == second

    async def test_a_refusal_before_anything_was_shown_is_nobodys(self, make):
        auth = make(pair(refresh=None))
        auth.refused("you are not authorized")
        auth.accepted()
        assert (auth.state, auth.refusals) == ("ready", 0)

    async def test_waiting_connections_go_on_when_a_person_has_logged_in(self, make, rest):
        rest.keys = [REFUSED]
        auth = make(pair(refresh=None))
        waiting = [asyncio.create_task(auth.credentials()) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert auth.state == "needs login"
        newest = access(NOW_MS + 7)
        auth.hand_in(newest)
        shown = await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert {of(one) for one in shown} == {newest}


class TestStrangeVenues:
    async def test_new_tokens_that_are_dead_are_not_asked_for_for_ever(self, make, rest):
        rest.keys = [REFUSED] * 50
        rest.renewals = [pair(access(NOW_MS - 2 * DAY_MS), f"rt-{n}") for n in range(50)]
        auth = make(pair(access(NOW_MS - 2 * DAY_MS)))
        assert await waits(auth)
        assert auth.state == "needs login"
        assert len(rest.asked) <= 2 * REFUSALS_MOST + 1

    async def test_without_a_new_refresh_token_the_old_one_is_kept(self, make, rest, tmp_path):
        rest.keys, rest.renewals = [REFUSED], [pair(access(), None)]
        auth = make(pair())
        await credentials(auth)
        assert TokenFile(tmp_path).read().refresh.get_secret_value() == "rt-0"
        assert auth.status()["can_refresh"]

    async def test_one_that_expires_in_this_very_millisecond_is_not_shown(self, make, rest, clock):
        auth = make(pair(access(NOW_MS, 10_000), None))
        clock.advance(10)
        assert await waits(auth)
        assert (auth.state, auth.why) == ("needs login", "the token has expired")
        assert rest.asked == []

    async def test_a_token_without_a_birthday_is_renewed_a_quarter_of_an_hour_ahead(self, make, clock):
        dated = make_token(7, issued_ms=NOW_MS + 2 * DAY_MS, expires_ms=NOW_MS + DAY_MS)  # born after its end
        auth = make(pair(dated))
        clock.advance(86_400 - 15 * 60 - 1)
        assert not auth._is_due()
        clock.advance(2)
        assert auth._is_due()

    async def test_a_clock_set_back_does_not_renew_and_forward_does(self, make, rest, clock):
        auth = make(pair())
        clock.jump(-30 * 86_400)
        await credentials(auth)
        assert [what for what, _ in rest.asked] == ["key"]
        rest.renewals = [pair(access(NOW_MS + 5 * DAY_MS), "rt-1")]
        clock.jump(33 * 86_400)
        await credentials(auth)
        assert ("refresh", "rt-0") in rest.asked

    async def test_pauses_between_failed_renewals_double_up_to_a_cap(self, make, rest, clock):
        rest.renewals = [VenueError("502")] * 20
        auth = make(pair())
        clock.advance(86_400 - 800)
        pauses = []
        for _ in range(6):
            before = len(rest.asked)
            await auth._make_usable()
            assert len(rest.asked) == before + 1
            pauses.append(auth._retry_at - clock.monotonic())
            assert await auth._make_usable(), "the old one is good until its end"
            assert len(rest.asked) == before + 1, "and nothing is asked during the pause"
            clock.advance(pauses[-1])
        assert pauses == [RETRY_FIRST_S * 2**n for n in range(4)] + [RETRY_CAP_S] * 2

    @pytest.mark.parametrize("life_s", [60, 3_600, 86_400])
    def test_what_is_told_of_an_account_holds_nothing_of_its_tokens(self, make, life_s):
        token = access(NOW_MS, life_s * 1000)
        with structlog.testing.capture_logs() as logs:
            auth = make(pair(token, "rt-secret"))
            auth.refused("x")
        told = f"{auth.status()} {auth!r} {logs}"
        assert auth.status()["expires_in_s"] == life_s
        for secret in ("rt-secret", *token.split(".")):
            assert secret not in told
