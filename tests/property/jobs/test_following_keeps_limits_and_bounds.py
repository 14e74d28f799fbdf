"""A whole source over a venue that enforces its limits, in virtual time: no limit is hit, no bound is missed."""

import asyncio
import random
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from src.models.messages import GapReason
from src.venues.hyperliquid.simulator import Limits
from tests.support.virtual_time import run_virtually
from tests.support.virtual_venue import following


class Ages:
    """Looks every virtual second at everybody's age, against what was promised."""

    def __init__(self, source):
        self.source = source
        self.worst = {}
        self.broken = []

    async def watch(self):
        while True:
            await asyncio.sleep(1.0)
            now = asyncio.get_running_loop().time()
            for trader in self.source.followed:
                watched = self.source.looks[trader]
                if watched.within_s and watched.age_s(now) > watched.within_s:
                    self.broken.append((trader, watched.age_s(now), watched.within_s))


TICK_S = 2.0
"""Ages are looked at now and then; a promise is kept to within such a look."""


@given(
    count=st.integers(1, 90),
    addresses=st.integers(1, 3),
    users=st.integers(2, 12),
    messages=st.integers(60, 2000),
    connects=st.integers(15, 60),
    users_freed=st.sampled_from(["unsubscribe", "connection"]),
    latency_s=st.floats(0.01, 0.8),
    pinned=st.integers(0, 6),
    rotation=st.sampled_from(["same", "auto", "never"]),
    seed=st.integers(0, 1_000),
)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a case of minutes takes hours
)
def test_whatever_the_load_no_limit_is_hit_and_everybody_is_looked_at_in_time(
    *, count, addresses, users, messages, connects, users_freed, latency_s, pinned, rotation, seed
):
    limits = Limits(
        users=users,
        messages_per_minute=messages,
        connects_per_minute=connects,
        subscriptions=40,
    )

    async def run():
        rng = random.Random(seed)
        async with following(
            traders=count,
            addresses=addresses,
            limits=limits,
            users_freed=users_freed,
            latency_s=latency_s,
            hyperliquid_max_users=users,
            hyperliquid_pinned=pinned,
            hyperliquid_rotation=users_freed if rotation == "same" else rotation,
        ) as (source, venue, notes):
            ages = Ages(source)
            watching = asyncio.create_task(ages.watch())
            source.follow(venue.traders)
            for _ in range(3):
                await asyncio.sleep(rng.uniform(20, 90))
                source.follow(rng.sample(venue.traders, rng.randint(1, count)))  # traders come and go
            await asyncio.sleep(500)
            watching.cancel()
            refused = {name: dict(venue.limits.of(name).refused) for name in venue.peaks}
            assert all(peak.connections <= 10 for peak in venue.peaks.values())
            assert all(peak.users <= users for peak in venue.peaks.values())
            assert not notes.letters
            late = [gap for gap in notes.gaps if gap.reason is GapReason.LOOK_LATE]
            never = [t for t in source.followed if source.looks[t].looked_at is None]
            return refused, ages.broken[:3], late[:2], never

    published = {"MESSAGES_PER_MINUTE": messages, "CONNECTS_PER_MINUTE": connects, "MAX_SUBSCRIPTIONS": 40}
    with patch.multiple("src.venues.hyperliquid.feed", **published):
        refused, broken, late, never = run_virtually(run())
    if rotation in {"auto", "never"} and users_freed == "connection":
        # What frees a user is learned from being refused, by a few looks of the first moments.
        assert all(hit.keys() <= {"users"} and hit.get("users", 0) <= 3 * users for hit in refused.values()), refused
    else:
        assert not any(refused.values()), refused
    assert not [one for one in broken if one[1] > one[2] + TICK_S], broken
    assert not late, late
    assert not never
