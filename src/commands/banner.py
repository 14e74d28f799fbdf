"""What a person reads when the program has started: what is collected, where it goes, where to look."""

from __future__ import annotations

from src import __version__
from src.app import Start
from src.config import Settings


def banner(settings: Settings, start: Start, *, simulated: bool = False) -> str:
    """Several lines, the last one ended.

    Args:
        settings: of the running program.
        start: what is known of it.
        simulated: the venues are invented.
    """
    url, facts = start.url, start.facts
    lines = [
        f"market collector {__version__}",
        *_labelled("collects", _what_is_collected(settings, start)),
        *_labelled("from", _where_from(settings, start, simulated=simulated)),
        f"  into       {facts.uri}  database {facts.database}",
        f"             MongoDB {facts.version}, {facts.topology}",
        f"  look at    {url}/  {url}/orderbook  {url}/health  {url}/stats  {url}/docs",
        f"  files in   {settings.data_dir}",
        "  stop with  Ctrl-C",
    ]
    return "\n".join(lines) + "\n"


def _what_is_collected(settings: Settings, start: Start) -> list[str]:
    told = _of_hyperliquid(settings, start.followed) if "hyperliquid" in start.collecting else []
    configured = {
        "alpaca": ("trades", settings.alpaca_symbols),
        "futu": ("books", settings.futu_symbols),
        "stockbit": ("books, trades", settings.stockbit_tickers),
    }
    for venue, (kinds, symbols) in configured.items():
        if venue in start.collecting:
            told.append(f"{kinds} of {', '.join(symbols) if symbols else 'what live clients ask for'} ({venue})")
    if told:
        return told
    if not settings.hyperliquid_enabled:
        return ["nothing: HYPERLIQUID_ENABLED is false, and no other venue has an account"]
    return ["nothing: the settings switch everything off"]


def _of_hyperliquid(settings: Settings, followed: int) -> list[str]:
    told = []
    of_traders = {
        "orders": settings.trader_orders_ws_enabled,
        "positions": settings.trader_positions_ws_enabled,
        "fills": settings.hyperliquid_fills,
    }
    if settings.trader_ws_enabled and (kinds := _chosen(of_traders)):
        top = f"the top {settings.hyperliquid_leaderboard_count} of the leaderboard"
        whom = f"{followed} trader{'s' if followed > 1 else ''}" if followed else top
        told.append(f"{kinds} of {whom}")
    of_coins = {"books": settings.hyperliquid_books, "trades": settings.hyperliquid_trades}
    if settings.hyperliquid_coins and (kinds := _chosen(of_coins)):
        told.append(f"{kinds} of {', '.join(settings.hyperliquid_coins)}")
    return told


def _where_from(settings: Settings, start: Start, *, simulated: bool) -> list[str]:
    addresses = {
        "hyperliquid": f"Hyperliquid, {settings.hyperliquid_ws_url}",
        "alpaca": f"Alpaca, {settings.alpaca_ws_url}",
        "futu": f"Futu OpenD, {settings.futu_host}:{settings.futu_port}",
        "stockbit": f"Stockbit, {settings.stockbit_ws_url}",
    }
    prefix = "a simulated venue: " if simulated else ""
    return [prefix + addresses[venue] for venue in start.collecting if venue in addresses] or ["nowhere"]


def _chosen(switches: dict[str, bool]) -> str:
    return ", ".join(name for name, wanted in switches.items() if wanted)


def _labelled(label: str, texts: list[str]) -> list[str]:
    return [f"  {label if number == 0 else '':<11}{text}" for number, text in enumerate(texts)]
