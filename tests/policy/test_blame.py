"""Who is to blame for push-back: each clause alone, then any limiter of a rate against the rule."""

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from tilehaul.policy.blame import (
    ANSWERS_MIN,
    APART_S_MAX,
    SOONER_MIN,
    UNRELATED_S_FIRST,
    UNRELATED_S_MAX,
    Blame,
)
from tilehaul.policy.gate import Spell
from tilehaul.policy.limit import AdaptiveLimit
from tilehaul.policy.limit_rule import LimitRule
from tilehaul.policy.pace import Pace


class Rig:
    """A lane of level 100, which push-back cuts to 70, 49, ...; its time begins at 0."""

    def __init__(self) -> None:
        self.limit = AdaptiveLimit(LimitRule(start=100, most=100))
        self.pace = Pace()
        self.blame = Blame(self.limit, self.pace)
        self.now_s = 0.0

    def pushed_back(self, per_s: float, open_s: float = 2.0, held_s: float = 1.0) -> bool:
        """Held, open, pushed back. True: load was not to blame, nothing was told."""
        self.now_s += held_s + open_s
        spell = Spell(held_s, open_s, round(per_s * open_s))
        self.blame.on_push_back(self.now_s, self.now_s + held_s, spell)
        return self.now_s < self.blame.until_s

    def acquitted(self) -> "Rig":
        assert [self.pushed_back(100.0), self.pushed_back(70.0)] == [False, True]
        return self


def test_push_back_is_told_while_nothing_is_known() -> None:
    rig = Rig()
    rig.blame.on_push_back(5.0, 6.0, None)
    assert rig.limit.limit == 70


def test_slower_and_yet_fewer_answers_is_not_load() -> None:
    """The level is what it was before the cut, and the next push-back changes nothing."""
    rig = Rig().acquitted()
    assert rig.limit.level == 100.0
    assert rig.pushed_back(100.0)
    rig.blame.on_push_back(rig.now_s, rig.now_s + 1.0, None)
    assert (rig.limit.level, rig.pace.per_s) == (100.0, inf)


def test_slower_and_as_many_answers_is_load() -> None:
    """A bucket: T grows as the rate falls."""
    rig = Rig()
    assert [rig.pushed_back(100.0, 2.0), rig.pushed_back(70.0, 2.0 / 0.7)] == [False, False]
    assert rig.limit.limit == 49


def test_not_slower_says_nothing() -> None:
    """Fewer answers at nine tenths of the rate: may be luck."""
    rig = Rig()
    assert [rig.pushed_back(100.0), rig.pushed_back(90.0, 1.0)] == [False, False]


def test_slow_decline_is_compared_with_where_it_began() -> None:
    """A lane that grows a little between two bursts loses a sixth each time."""
    rig = Rig()
    assert [rig.pushed_back(rate) for rate in (100.0, 88.0, 77.0)] == [False, False, True]
    assert rig.limit.level == 100.0


def test_few_answers_are_no_evidence() -> None:
    rig = Rig()
    assert [rig.pushed_back(100.0), rig.pushed_back((ANSWERS_MIN - 1) / 2.0)] == [False, False]
    # What was seen before them is: a lane that has become slow meanwhile is not lost for good.
    assert rig.pushed_back(ANSWERS_MIN / 2.0)


def test_shorter_hold_is_not_compared() -> None:
    """The bucket had less time to fill: fewer answers are to be expected."""
    rig = Rig()
    assert [rig.pushed_back(100.0, held_s=1.2), rig.pushed_back(70.0, held_s=1.0)] == [False, False]


def test_spells_far_apart_are_not_compared() -> None:
    rig = Rig()
    assert not rig.pushed_back(100.0)
    rig.now_s += APART_S_MAX
    assert not rig.pushed_back(70.0)


def test_paced_answers_are_no_evidence() -> None:
    rig = Rig()
    assert not rig.pushed_back(100.0)
    rig.pace.per_s = 70.0
    assert not rig.pushed_back(70.0)
    rig.pace.drop()
    assert rig.pushed_back(60.0)


def test_it_is_judged_anew_after_a_minute_then_two_up_to_ten() -> None:
    rig = Rig()
    spans_s = []
    for _ in range(6):
        rig.acquitted()
        spans_s.append(rig.blame.until_s - rig.now_s)
        rig.now_s = rig.blame.until_s
        # Lanes grow again meanwhile; here they are let to.
        rig.limit.take_back(100.0)
    assert spans_s[:4] == [UNRELATED_S_FIRST, 2 * UNRELATED_S_FIRST, 4 * UNRELATED_S_FIRST, 480.0]
    assert spans_s[4:] == [UNRELATED_S_MAX, UNRELATED_S_MAX]


def test_sooner_twice_running_ends_the_acquittal() -> None:
    rig = Rig().acquitted()
    assert rig.pushed_back(200.0, 1.0)
    assert rig.pushed_back(200.0, 2.0)
    heard = [rig.pushed_back(200.0, 1.0) for _ in range(SOONER_MIN)]
    assert heard == [True] * (SOONER_MIN - 1) + [False]
    assert rig.limit.level < 100.0


def test_load_that_shows_itself_shortens_the_next_acquittal() -> None:
    rig = Rig().acquitted()
    rig.now_s = rig.blame.until_s
    assert [rig.pushed_back(100.0, 2.0), rig.pushed_back(70.0, 3.0)] == [False, False]
    assert rig.pushed_back(40.0, 3.0)
    assert rig.blame.until_s - rig.now_s == UNRELATED_S_FIRST


def test_acquittal_drops_the_pace_and_keeps_it_from_beginning() -> None:
    rig = Rig()
    rig.acquitted()
    for _ in range(10):
        assert rig.pushed_back(100.0)
    assert rig.pace.per_s == inf


@settings(max_examples=200, deadline=None)
@given(
    refill_per_s=st.floats(0.5, 500.0),
    burst=st.floats(1.0, 1000.0),
    held_s=st.floats(0.5, 30.0),
    rates_per_s=st.lists(st.floats(1.0, 1000.0), min_size=2, max_size=20),
)
def test_bucket_is_never_taken_for_unrelated(refill_per_s, burst, held_s, rates_per_s) -> None:
    """Any bucket, any rates: it pushes back after B + R T answers, and the rest of a whole one is given."""
    rig = Rig()
    stored = min(burst, refill_per_s * held_s)
    for rate_per_s in rates_per_s:
        if rate_per_s > 1.05 * refill_per_s:
            assert not rig.pushed_back(rate_per_s, stored / (rate_per_s - refill_per_s), held_s)
        rig.pace.drop()


@settings(max_examples=100, deadline=None)
@given(every_s=st.floats(1.0, 10.0), held_s=st.floats(0.2, 3.0), per_s=st.floats(40.0, 1000.0))
def test_clock_is_found_out_by_one_cut(every_s, held_s, per_s) -> None:
    """Push-back after the same time whatever is sent."""
    rig = Rig()
    assert not rig.pushed_back(per_s, every_s, held_s)
    assert rig.pushed_back(0.7 * per_s, every_s, held_s)


def test_pace_is_told_the_yield_of_the_whole_time_waits_included() -> None:
    """Thirty good answers in two seconds after one of waiting: ten a second is what a pace must beat."""
    rig = Rig()
    rig.blame.on_push_back(0.0, 1.0, None)
    for _ in range(5):
        assert not rig.pushed_back(15.0)
    assert rig.pace.per_s < inf
    assert rig.pace._unpaced_per_s == 10.0
