"""500 traders at a venue that enforces its published limits, in virtual time."""

import asyncio

import pytest

from src.models.messages import GapReason, RefusalKind
from src.models.metrics import REST_REFUSALS
from src.venues.hyperliquid.simulator import Limits
from tests.support.virtual_time import run_virtually
from tests.support.virtual_venue import following

TRADERS = 500


class Outcome:
    """What was seen of a run, from its second minute on."""

    def __init__(self, source, venue, notes):
        self.source, self.venue, self.notes = source, venue, notes
        self.ages, self.broken = [], []
        self.refused_before = {}

    async def watch(self, warm_s, watch_s):
        await asyncio.sleep(60)
        self.refused_before = self.refused()
        await asyncio.sleep(warm_s - 60)
        loop = asyncio.get_running_loop()
        end = loop.time() + watch_s
        while loop.time() < end:
            await asyncio.sleep(5)
            for trader in self.source.followed:
                watched = self.source.looks[trader]
                age_s = watched.age_s(loop.time())
                if watched.assignment.mode != "live":
                    self.ages.append(age_s)
                    if age_s > watched.within_s:
                        self.broken.append((trader, age_s, watched.within_s))
        self.following = self.source.status()["following"]

    def refused(self):
        return {name: dict(self.venue.limits.of(name).refused) for name in self.venue.peaks}

    def p95(self):
        return sorted(self.ages)[int(len(self.ages) * 0.95)]

    def assert_kept_to_the_rules(self):
        assert self.refused() == self.refused_before  # nothing after the first minute
        assert not self.broken, self.broken[:3]
        assert not [gap for gap in self.notes.gaps if gap.reason is GapReason.LOOK_LATE]
        assert self.following["never_looked_at"] == self.following["late"] == 0
        assert not self.notes.letters


def run(warm_s=300, watch_s=300, **options):
    async def life():
        async with following(traders=TRADERS, **options) as (source, venue, notes):
            outcome = Outcome(source, venue, notes)
            source.follow(venue.traders)
            await outcome.watch(warm_s, watch_s)
            return outcome

    return run_virtually(life())


def test_one_address_with_rotation_looks_at_everybody_within_two_minutes():
    outcome = run()
    outcome.assert_kept_to_the_rules()
    assert outcome.refused() == {"address-0": {}}
    assert outcome.following["modes"] == {"live": 5, "rotation": 495, "poll": 0}
    assert outcome.following["bound_s"] <= 120
    assert outcome.p95() < 120
    assert outcome.following["age_s"]["by_mode"]["live"]["max"] <= 10  # two pushes


def test_where_users_are_freed_only_with_the_connection_the_plan_says_its_longer_bound():
    outcome = run(warm_s=600, users_freed="connection")
    outcome.assert_kept_to_the_rules()
    hit = outcome.refused()["address-0"]
    assert hit.keys() == {"users"}
    assert hit["users"] <= 10  # how it was learned
    assert {r.kind for r, _ in outcome.notes.refusals} <= {RefusalKind.USER_CAP}
    assert outcome.following["egress"][0]["users_freed_with"] == "connection"
    assert outcome.following["modes"]["live"] == 5
    assert 120 < outcome.following["bound_s"] <= 360


def test_without_rotation_polling_alone_keeps_its_promise():
    outcome = run(warm_s=1_300, watch_s=600, hyperliquid_rotation="never")
    outcome.assert_kept_to_the_rules()
    assert outcome.refused() == {"address-0": {}}
    assert outcome.following["modes"] == {"live": 10, "rotation": 0, "poll": 490}
    assert 600 < outcome.following["bound_s"] <= 1_200
    assert outcome.source.metrics.total(REST_REFUSALS) == 0


@pytest.mark.parametrize("users_freed", ["unsubscribe", "connection"])
def test_three_addresses_shrink_ages_and_bounds(users_freed):
    one, three = (run(warm_s=600, users_freed=users_freed, addresses=n) for n in (1, 3))
    three.assert_kept_to_the_rules()
    assert len(three.venue.peaks) == 3
    assert three.following["modes"]["live"] == 15
    assert one.p95() / three.p95() > 2.4
    assert one.following["bound_s"] / three.following["bound_s"] >= 2  # the time one look may take does not shrink


def test_a_venue_that_allows_fewer_users_is_believed_after_a_while():
    outcome = run(warm_s=420, limits=Limits(users=4))
    assert not outcome.broken
    assert outcome.following["never_looked_at"] == outcome.following["late"] == 0
    assert outcome.refused()["address-0"]["users"] <= 90
    assert outcome.following["egress"][0]["users_allowed"] <= 4


def test_a_quieter_budget_for_polls_makes_the_promise_longer():
    async def life():
        async with following(traders=100, hyperliquid_rotation="never") as (source, venue, _):
            source.follow(venue.traders)
            await asyncio.sleep(60)
            before = source.status()["following"]["bound_s"]
            budget = source.weight_budgets[0]
            hold = budget._hold(20, 2)
            budget.refused(hold)  # a 429
            budget.settle(hold, 0)
            for _ in range(3):
                await asyncio.sleep(40)
            return before, source.status()["following"]["bound_s"], venue.limits.of("address-0").refused

    before, after, refused = run_virtually(life())
    assert after > before
    assert not refused
