"""What stands where in Redis, and how it is written. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from src.models.changes import Change
from src.models.live import Standing, Topic

PREFIX = "market-collector"
PROCESSES = f"{PREFIX}:processes"
"""Set of the ids of all processes that share live data."""

WAKE = f"{PREFIX}:wake"
"""Channel: somebody's demand changed."""

LIVE_S = 15
"""Seconds after which what a process says of itself counts as its past."""


class Published(Struct, frozen=True):
    """One message on the channel of a topic."""

    origin: str
    changes: list[Change]


class ProcessFacts(Struct, frozen=True):
    """What one process says of itself, every few seconds.

    Attributes:
        demand: topics its own clients want, by name.
        standings: how the topics others want stand with it, by name; only of venues it collects.
        connected: venues it collects, and whether it hears them now.
        listeners: how many of its clients listen to each topic, by name.
    """

    demand: list[str]
    standings: dict[str, Standing]
    connected: dict[str, bool]
    listeners: dict[str, int]


def topic_channel(topic: Topic) -> str:
    """The channel on which a topic is published."""
    return f"{PREFIX}:topic:{topic}"


def topic_of_channel(channel: str) -> Topic:
    """The reverse.

    Raises:
        ValueError: it is not the channel of a topic.
    """
    head = f"{PREFIX}:topic:"
    if not channel.startswith(head):
        raise ValueError(f"{channel!r} is not the channel of a topic")
    return Topic.parse(channel[len(head) :])


def process_key(process: str) -> str:
    """Where a process says how it is."""
    return f"{PREFIX}:process:{process}"


def client_key(client_id: str) -> str:
    """Where the subscriptions of a client are remembered."""
    return f"{PREFIX}:client:{client_id}"


encode = msgspec.msgpack.Encoder().encode
decode_published = msgspec.msgpack.Decoder(Published).decode
decode_facts = msgspec.msgpack.Decoder(ProcessFacts).decode
decode_keys = msgspec.msgpack.Decoder(list[tuple[str, str, str]]).decode
