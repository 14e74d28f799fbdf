"""Tokens over real HTTP: keys, expiry, rotation, refusals, and that no token is seen anywhere but where it must be."""

import logging
import stat

import httpx
import pytest
import structlog
from pydantic import SecretStr

from src.models.clock import ManualClock
from src.models.errors import ConfigurationError, VenueError, VenueFatalError
from src.models.metrics import REST_REQUESTS, Metrics
from src.venues.clock import SystemClock
from src.venues.stockbit.rest import StockbitRest, TokenRefusedError
from src.venues.stockbit.simulator import DayClock, StockbitSimulator, StockbitSimulatorConfig
from src.venues.stockbit.token_file import NAME, TokenFile
from tests.support.stockbit_world import stockbit_world, until

pytestmark = pytest.mark.integration

KEYS = "/auth/websocket/key"
REFRESH = "/login/refresh"


def login(world):
    return world.source.status()["login"]


def last_error(world):
    return (world.source.status()["connections"][0]["last_error"] or {}).get("reason")


@pytest.fixture
async def venue():
    async with StockbitSimulator(StockbitSimulatorConfig(always_open=True, updates_per_s=1.0)) as sim:
        rest = StockbitRest(sim.api_url, clock=SystemClock(), metrics=Metrics())
        sim.client = rest
        yield sim
        await rest.close()


class TestRequests:
    async def test_a_key_for_a_good_token(self, venue):
        access, _ = venue.log_in()
        key = await venue.client.key(SecretStr(access))
        assert len(key.get_secret_value()) == 44
        assert key != await venue.client.key(SecretStr(access))

    async def test_a_dead_token_is_refused(self, venue):
        access, _ = venue.log_in()
        venue.accounts.kill_tokens()
        with pytest.raises(TokenRefusedError) as caught:
            await venue.client.key(SecretStr(access))
        assert access not in str(caught.value)

    async def test_both_tokens_rotate_and_the_old_one_is_dead(self, venue):
        _, refresh = venue.log_in()
        tokens = await venue.client.refresh(SecretStr(refresh))
        assert tokens.refresh.get_secret_value() != refresh
        assert await venue.client.key(tokens.access)
        with pytest.raises(TokenRefusedError):
            await venue.client.refresh(SecretStr(refresh))

    async def test_a_bot_challenge_is_no_refusal_of_the_token(self, venue):
        access, _ = venue.log_in()
        venue.rest.faults.challenges = True
        with pytest.raises(VenueFatalError, match="bot challenge") as caught:
            await venue.client.key(SecretStr(access))
        assert not isinstance(caught.value, TokenRefusedError)

    async def test_a_venue_that_is_down(self, venue):
        venue.rest.faults.is_down = True
        with pytest.raises(VenueError, match="502") as caught:
            await venue.client.key(SecretStr("x"))
        assert caught.value.retryable

    async def test_nobody_there(self):
        rest = StockbitRest("http://127.0.0.1:9", clock=ManualClock(), metrics=(metrics := Metrics()))
        with pytest.raises(VenueError) as caught:
            await rest.key(SecretStr("secret-token"))
        assert "secret-token" not in str(caught.value)
        assert metrics.value(REST_REQUESTS, "stockbit", "failed") == 1
        await rest.close()

    @pytest.mark.parametrize(
        ("status", "content", "kind"),
        [
            (200, b"[]", VenueError),
            (200, b"{", VenueError),
            (200, b'{"data": {}}', VenueError),
            (200, b'{"data": {"key": 5}}', VenueError),
            (200, b'{"data": {"key": "a b"}}', VenueError),
            (200, b"x" * 300_000, VenueError),
            (403, b"", VenueFatalError),
            (429, b"", VenueError),
            (500, b"", VenueError),
            (302, b"", VenueError),
        ],
    )
    async def test_odd_answers(self, status, content, kind, monkeypatch):
        transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
        made = httpx.AsyncClient
        monkeypatch.setattr(httpx, "AsyncClient", lambda **options: made(transport=transport))
        rest = StockbitRest("http://127.0.0.1:9", clock=ManualClock(), metrics=Metrics())
        with pytest.raises(kind):
            await rest.key(SecretStr("x"))
        await rest.close()

    @pytest.mark.parametrize(
        "shape",
        [
            lambda a, r: {"data": {"access_token": a, "refresh_token": r}},
            lambda a, r: {"data": {"access": {"token": a, "expired_at": "x"}, "refresh": {"token": r}}},
            lambda a, r: {"access_token": a, "refresh_token": r},
            lambda a, r: {"data": {"login": {"token_data": {"accessToken": a, "refreshToken": r}}}},
        ],
    )
    async def test_new_tokens_are_found_wherever_the_answer_has_them(self, shape, monkeypatch, venue):
        access, refresh = venue.log_in()
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=shape(access, refresh)))
        made = httpx.AsyncClient
        monkeypatch.setattr(httpx, "AsyncClient", lambda **options: made(transport=transport))
        rest = StockbitRest("http://127.0.0.1:9", clock=ManualClock(), metrics=Metrics())
        tokens = await rest.refresh(SecretStr("x"))
        assert (tokens.access.get_secret_value(), tokens.refresh.get_secret_value()) == (access, refresh)
        await rest.close()


class TestLife:
    async def test_off_without_a_token_and_on_once_one_is_handed_in(self, tmp_path):
        with structlog.testing.capture_logs() as logs:
            async with stockbit_world(tmp_path, log_in=False) as world:
                assert world.source.status()["off"] == "no token"
                assert world.source.streams() == ()
                assert world.sim.connects == 0
                assert world.sim.rest.faults.requests == []
                access, refresh = world.sim.log_in()
                facts = world.source.hand_in(SecretStr(access), SecretStr(refresh))
                assert facts.can_refresh
                await world.fresh()
                assert world.source.off == ""
        assert [line["event"] for line in logs].count("venue_off") == 1
        kept = tmp_path / NAME
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    async def test_a_start_with_the_token_of_the_run_before(self, tmp_path):
        async with stockbit_world(tmp_path, log_in=False) as world:
            access, refresh = world.sim.log_in()
            world.source.hand_in(SecretStr(access), SecretStr(refresh))
            await world.fresh()
        async with stockbit_world(tmp_path, log_in=False) as world:
            assert world.source.off == ""
            # Another venue, which does not know that token: it is refused and cannot be renewed.
            await until(lambda: login(world)["state"] == "needs login")

    async def test_tokens_that_expire_are_renewed_again_and_again(self, tmp_path):
        clock = DayClock(1_770_177_600_000, speed=2000.0)
        config = StockbitSimulatorConfig(always_open=True, updates_per_s=20.0, token_life_s=3600.0)
        async with stockbit_world(tmp_path, config=config, clock=clock) as world:
            await until(lambda: world.sim.accounts.refreshes >= 3, "renewed three times")
            clock.speed = 1.0
            await world.fresh()
            assert login(world)["state"] == "ready"
            kept = TokenFile(tmp_path).read()
            assert world.sim.accounts.is_good(kept.access.get_secret_value(), clock.wall_ms())

    @pytest.mark.parametrize("refuses_by", ["error", "close"])
    async def test_a_log_in_elsewhere_kills_the_token_and_it_is_renewed(self, tmp_path, refuses_by):
        config = StockbitSimulatorConfig(always_open=True, updates_per_s=20.0, refuses_by=refuses_by)
        async with stockbit_world(tmp_path, config=config) as world:
            await world.fresh()
            world.sim.accounts.kill_tokens()
            await world.fresh(after=1)
            assert world.sim.accounts.refreshes == 1
            assert login(world)["state"] == "ready"
            assert world.gaps()["disconnect"] >= 1

    async def test_when_nothing_helps_it_stops_asking_and_says_so(self, tmp_path):
        async with stockbit_world(tmp_path) as world:
            await world.fresh()
            world.sim.accounts.kill_refresh_tokens()
            world.sim.accounts.kill_tokens()
            await until(lambda: login(world)["state"] == "needs login")
            asked = len(world.sim.rest.faults.requests)
            connects = world.sim.connects
            await until(lambda: world.state in ("connecting", "waiting"))
            for _ in range(30):
                await until(lambda: True)
            assert len(world.sim.rest.faults.requests) - asked <= 1
            assert world.sim.connects == connects
            access, refresh = world.sim.log_in()
            world.source.hand_in(SecretStr(access), SecretStr(refresh))
            await world.fresh(after=connects)

    async def test_without_a_refresh_token_one_refusal_ends_it(self, tmp_path):
        async with stockbit_world(tmp_path, refresh=False) as world:
            await world.fresh()
            world.sim.accounts.kill_tokens()
            await until(lambda: login(world)["state"] == "needs login")
            assert world.sim.rest.faults.requests.count(REFRESH) == 0

    async def test_a_venue_that_is_down_is_waited_for(self, tmp_path):
        async with stockbit_world(tmp_path) as world:
            await world.fresh()
            world.sim.rest.faults.is_down = True
            world.sim.drop_all()
            await until(lambda: last_error(world) == "venue_error")
            world.sim.rest.faults.is_down = False
            await world.fresh(after=1)
            assert login(world)["refusals"] == 0

    async def test_a_new_key_for_each_connection(self, tmp_path):
        async with stockbit_world(tmp_path) as world:
            await world.fresh()
            world.sim.drop_all()
            await world.fresh(after=1)
            assert world.sim.rest.faults.requests.count(KEYS) == world.sim.connects

    async def test_what_is_no_token_is_refused_at_the_door(self, tmp_path):
        async with stockbit_world(tmp_path, log_in=False) as world:
            with pytest.raises(ConfigurationError):
                world.source.hand_in(SecretStr("nonsense"), None)
            assert world.source.off == "no token"


async def test_tokens_are_seen_nowhere(tmp_path, caplog):
    """A life with everything that goes wrong; no token, key or user number in logs, status, gaps, letters."""
    caplog.set_level(logging.DEBUG)
    seen = []
    with structlog.testing.capture_logs() as logs:
        async with stockbit_world(tmp_path) as world:
            await world.fresh()
            seen.append(str(world.source.status()))
            world.sim.accounts.kill_tokens()
            await world.fresh(after=1)
            world.sim.rest.faults.challenges = True
            world.sim.drop_all()
            await until(lambda: last_error(world) == "refused_by_venue")
            seen.append(str(world.source.status()))
            world.sim.rest.faults.challenges = False
            world.sim.accounts.kill_tokens()
            world.sim.accounts.kill_refresh_tokens()
            await until(lambda: login(world)["state"] == "needs login")
            seen += [str(world.source.status()), repr(world.sink.gaps), repr(world.sink.letters), repr(world.source)]
            keys = world.sim.accounts._keys
            secrets = ["1234567", "Some Body", *keys, *keys.values()]
            seen.append(str(list(world.metrics.samples())))
    text = " ".join([*seen, str(logs), caplog.text])
    assert len(secrets) > 4
    for secret in secrets:
        assert secret not in text
    other_files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != NAME]
    assert other_files == []
