"""The live side as the settings put it together."""

from types import SimpleNamespace

from src.config import Settings
from src.live import LiveSide, configured_topics, gateway_options
from src.models.clock import ManualClock
from src.models.live import Standing, Topic
from src.models.metrics import Metrics
from src.pipeline.hub import Hub
from tests.support.gateway_world import ScriptedSource


class OffSource(ScriptedSource):
    def standing(self, kind, symbol):
        return Standing("refused", "off", "no key")


def side(*sources, **settings):
    pipeline = SimpleNamespace(is_hurried=lambda: False)
    metrics = Metrics()
    made = LiveSide(
        Settings(**settings),
        sources=sources,
        hub=Hub(metrics=metrics),
        pipeline=pipeline,
        clock=ManualClock(),
        metrics=metrics,
        is_collecting=lambda: True,
    )
    return made, pipeline


def resolved(made, kind, symbol):
    return [str(topic) for topic in made.gateway._subscriptions._directory.resolve(kind, symbol)]


def test_options_follow_the_settings():
    options = gateway_options(
        Settings(
            gateway_batch_interval_ms=50,
            gateway_max_message_kb=8,
            gateway_token="0123456789abcdef",
            gateway_queue_size=77,
            allowed_origins="https://a.example",
            api_token="0123456789abcdef",
        )
    )
    assert (options.interval_s, options.message_bytes, options.limits.events) == (0.05, 8192, 77)
    assert options.rules.token == "0123456789abcdef"
    assert options.rules.allowed_origins == ("https://a.example",)
    assert options.rules.check_host is False


def test_configured_symbols_are_known_in_their_venues_spelling():
    topics = configured_topics(Settings(hyperliquid_coins="BTC", stockbit_tickers="BBCA"))
    assert Topic("book", "hyperliquid", "BTC") in topics
    assert Topic("trade", "stockbit", "BBCA") in topics
    assert configured_topics(Settings(hyperliquid_enabled=False)) == frozenset()


def test_a_symbol_means_the_venue_that_is_configured_for_it_else_one_that_is_on():
    made, _ = side(ScriptedSource(), ScriptedSource("alpaca"), hyperliquid_coins="BTC")
    assert resolved(made, "trade", "BTC") == ["trade/hyperliquid/BTC"]
    assert resolved(made, "trade", "AAPL") == ["trade/alpaca/AAPL"]
    made, _ = side(ScriptedSource(), OffSource("alpaca"), hyperliquid_coins="BTC")
    assert resolved(made, "trade", "DOGE") == ["trade/hyperliquid/DOGE"]


def test_nothing_hurries_while_nobody_is_connected_or_the_gateway_is_off():
    made, pipeline = side()
    assert pipeline.is_hurried() is False
    assert made.stats()["enabled"] is True
    made, _ = side(gateway_enabled=False)
    assert made.stats() == {"enabled": False}
    assert made.socket_of is None
