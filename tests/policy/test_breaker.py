"""The breaker: each rule alone, then random histories against a plain model."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tilehaul.errors import ConfigError
from tilehaul.policy.breaker import (
    BREAKER_SERVING,
    WINDOW_STEPS,
    Breaker,
    BreakerRule,
    Ticket,
    counting_rule,
)


def leave(breaker: Breaker, now_s: float) -> Ticket:
    ticket = breaker.admit(now_s)
    assert ticket is not None
    return ticket


def outcomes(breaker: Breaker, pattern: str, *, now_s: float = 0.0, step_s: float = 0.0) -> None:
    """Report '.' (success), 'x' (failure), 's' (slow), 'a' (answered), 'n' (neutral)."""
    for mark in pattern:
        ticket = leave(breaker, now_s)
        if mark == "x":
            breaker.on_failure(now_s, ticket, luck=0.0)
        elif mark == "a":
            breaker.on_answered(now_s, ticket)
        elif mark == "n":
            breaker.on_neutral(ticket)
        else:
            breaker.on_success(now_s, ticket, 30.0 if mark == "s" else 0.1, base_s=0.5)
        now_s += step_s


def opened(now_s: float = 0.0, **more) -> Breaker:
    breaker = Breaker(BreakerRule(calls_min=1, **more))
    outcomes(breaker, "x", now_s=now_s)
    assert breaker.state(now_s) == "open"
    return breaker


def test_half_of_twenty_failures_open() -> None:
    breaker = Breaker()
    outcomes(breaker, "." * 10 + "x" * 9)
    assert breaker.state(0.0) == "closed"
    outcomes(breaker, "x")
    assert (breaker.state(0.0), breaker.openings) == ("open", 1)
    assert breaker.admit(0.0) is None
    assert breaker.retry_after_s(1.0) == 4.0


def test_less_than_half_stays_closed() -> None:
    breaker = Breaker()
    outcomes(breaker, ".." + "x." * 50)
    assert (breaker.state(0.0), breaker.retry_after_s(0.0)) == ("closed", 0.0)


def test_serving_needs_ten_calls_only() -> None:
    breaker = Breaker(BREAKER_SERVING)
    outcomes(breaker, "x" * 9)
    assert breaker.state(0.0) == "closed"
    outcomes(breaker, "x")
    assert breaker.state(0.0) == "open"


def test_a_service_looks_again_within_ten_seconds() -> None:
    """After an outage of an hour, whose probes all failed, the next is no later than after one of ten."""
    breaker, now_s = Breaker(BREAKER_SERVING), 0.0
    outcomes(breaker, "x" * 10)
    while now_s < 3600.0:
        wait_s = breaker.retry_after_s(now_s)
        assert wait_s <= 8.0
        now_s += wait_s
        ticket = breaker.admit(now_s)
        assert ticket is not None
        breaker.on_failure(now_s, ticket, luck=0.0)
    assert 0.0 < breaker.retry_after_s(now_s) <= 8.0


def test_old_outcomes_are_forgotten() -> None:
    """19 failures, then a window later one more: one of one, and one is too few."""
    breaker = Breaker()
    outcomes(breaker, "x" * 19, now_s=5.0)
    outcomes(breaker, "x", now_s=35.5)
    assert breaker.state(35.5) == "closed"
    assert breaker._window.counts(35.5) == (1, 1, 0)


def test_outcomes_within_the_window_are_kept() -> None:
    breaker = Breaker()
    outcomes(breaker, "x" * 19, now_s=5.0)
    outcomes(breaker, "x", now_s=5.0 + 30.0 * (WINDOW_STEPS - 1) / WINDOW_STEPS - 0.01)
    assert breaker.openings == 1


def test_a_time_that_steps_back_harms_nothing() -> None:
    breaker = Breaker()
    outcomes(breaker, "x" * 5, now_s=50.0)
    outcomes(breaker, "x" * 5, now_s=40.0)
    assert breaker._window.counts(50.0) == (10, 10, 0)


def test_answered_and_neutral_are_not_counted() -> None:
    """A 404 between failures must not keep the breaker closed."""
    breaker = Breaker()
    outcomes(breaker, "xan" * 19 + "x")
    assert breaker.state(0.0) == "open"


def test_slow_answers_open() -> None:
    """At least 80 % slower than ten times the base and ten seconds."""
    breaker = Breaker()
    outcomes(breaker, "...." + "s" * 15)
    assert breaker.state(0.0) == "closed"
    outcomes(breaker, "s")
    assert breaker.state(0.0) == "open"


@pytest.mark.parametrize(
    ("ttfb_s", "base_s", "slow"),
    [(10.0, 0.5, 0), (10.1, 0.5, 1), (10.1, 1.01, 0), (10.2, 1.01, 1), (10.1, None, 0), (0.2, 0.01, 0)],
)
def test_slow_is_relative_to_the_base_and_absolute(ttfb_s: float, base_s: float | None, slow: int) -> None:
    breaker = Breaker()
    breaker.on_success(0.0, leave(breaker, 0.0), ttfb_s, base_s)
    assert breaker._window.counts(0.0) == (1, 0, slow)


def test_one_probe_at_a_time() -> None:
    """500 who wait: exactly one goes."""
    breaker = opened()
    assert breaker.state(4.999) == "open"
    assert breaker.state(5.0) == "half_open"
    tickets = [breaker.admit(5.0) for _ in range(500)]
    assert [ticket.probe for ticket in tickets if ticket] == [True]
    assert breaker.retry_after_s(6.0) == 149.0


def test_three_good_probes_close_and_forget() -> None:
    breaker = opened()
    outcomes(breaker, "..", now_s=5.0)
    assert breaker.state(5.0) == "half_open"
    outcomes(breaker, ".", now_s=5.0)
    assert breaker.state(5.0) == "closed"
    assert breaker._window.counts(5.0) == (0, 0, 0)
    outcomes(breaker, "." * 100, now_s=5.0)


def test_failed_probe_opens_for_twice_as_long_up_to_the_most() -> None:
    breaker = opened()
    now_s = 0.0
    waits = []
    for _ in range(7):
        waits.append(breaker.retry_after_s(now_s))
        now_s += waits[-1]
        outcomes(breaker, "x", now_s=now_s)
    assert waits == [5, 10, 20, 40, 80, 120, 120]
    assert breaker.openings == 8


@pytest.mark.parametrize("good", [".", "a"])
def test_pause_is_never_longer_than_the_outage_has_lasted(good: str) -> None:
    """A server that flaps is asked again after as long as it has been silent, not after minutes."""
    breaker = opened()
    now_s, waits = 0.0, []
    for marks in ("x", "x", f"{good}x", "x", "x", "x"):
        now_s += breaker.retry_after_s(now_s)
        outcomes(breaker, marks, now_s=now_s)
        waits.append(breaker.retry_after_s(now_s))
    assert waits == [10, 20, 5, 5, 10, 20]


def test_good_probes_before_a_failed_one_do_not_count_later() -> None:
    breaker = opened()
    outcomes(breaker, "..x", now_s=5.0)
    assert breaker.state(9.999) == "open"
    outcomes(breaker, "..", now_s=15.0)
    assert breaker.state(15.0) == "half_open"
    outcomes(breaker, ".", now_s=15.0)
    assert breaker.state(15.0) == "closed"


def test_closing_makes_the_next_pause_short_again() -> None:
    breaker = opened()
    outcomes(breaker, "x", now_s=5.0)
    outcomes(breaker, "...", now_s=15.0)
    outcomes(breaker, "x", now_s=20.0)
    assert breaker.retry_after_s(20.0) == 5.0


def test_pause_is_fully_jittered() -> None:
    breaker = Breaker(BreakerRule(calls_min=1))
    breaker.on_failure(0.0, leave(breaker, 0.0), luck=0.75)
    assert breaker.retry_after_s(0.0) == pytest.approx(1.25)


def test_lost_probe_is_given_up_after_its_lease() -> None:
    breaker = opened()
    lost = leave(breaker, 5.0)
    assert breaker.admit(154.9) is None
    second = leave(breaker, 155.0)
    assert second.generation != lost.generation
    breaker.on_failure(156.0, lost, luck=0.0)
    assert breaker.state(156.0) == "half_open"


def test_cancelled_probe_frees_its_place_at_once() -> None:
    breaker = opened()
    breaker.on_neutral(leave(breaker, 5.0))
    assert breaker.state(5.0) == "half_open"
    assert leave(breaker, 5.0).probe


def test_absent_proves_the_upstream_is_there() -> None:
    """A layer with holes must not keep its breaker half open."""
    breaker = opened()
    outcomes(breaker, "aaa", now_s=5.0)
    assert breaker.state(5.0) == "closed"


def test_slow_probe_is_a_success() -> None:
    breaker = opened()
    outcomes(breaker, "sss", now_s=5.0)
    assert breaker.state(5.0) == "closed"


def test_probe_counts_once() -> None:
    breaker = opened()
    ticket = leave(breaker, 5.0)
    for _ in range(5):
        breaker.on_success(5.0, ticket, 0.1, None)
    assert breaker.state(5.0) == "half_open"


@pytest.mark.parametrize("report", ["success", "answered", "failure", "neutral"])
def test_11_stale_success_and_other_late_reports_change_nothing(report: str) -> None:
    """An answer to what was sent before the breaker opened."""
    breaker = Breaker(BreakerRule(calls_min=1, successes_to_close=1))
    late = leave(breaker, 0.0)
    outcomes(breaker, "x")
    probe = leave(breaker, 5.0)
    {
        "success": lambda: breaker.on_success(6.0, late, 0.1, None),
        "answered": lambda: breaker.on_answered(6.0, late),
        "failure": lambda: breaker.on_failure(6.0, late, 0.0),
        "neutral": lambda: breaker.on_neutral(late),
    }[report]()
    assert (breaker.state(6.0), breaker.admit(6.0)) == ("half_open", None)
    breaker.on_success(7.0, probe, 0.1, None)
    assert breaker.state(7.0) == "closed"


def test_old_profile_five_failures_in_a_minute() -> None:
    """Opens whatever succeeds in between, for a minute, one probe decides."""
    breaker = Breaker(counting_rule())
    outcomes(breaker, ("." * 20 + "x") * 4, step_s=0.1)
    assert breaker.state(9.0) == "closed"
    ticket = leave(breaker, 9.0)
    breaker.on_failure(9.0, ticket, luck=0.9)
    assert breaker.retry_after_s(9.0) == 60.0
    breaker.on_failure(69.0, leave(breaker, 69.0), luck=0.9)
    assert breaker.retry_after_s(69.0) == 60.0
    outcomes(breaker, ".", now_s=129.0)
    assert breaker.state(129.0) == "closed"


def test_old_profile_forgets_after_its_window() -> None:
    breaker = Breaker(counting_rule(failures=2, window_s=60.0))
    outcomes(breaker, "xx", step_s=61.0)
    assert breaker.state(61.0) == "closed"
    outcomes(breaker, "s" * 50, now_s=61.0)
    assert breaker.state(61.0) == "closed"


def test_failures_need_their_number_too() -> None:
    breaker = Breaker(BreakerRule(calls_min=1, failures_min=3))
    outcomes(breaker, "xx")
    assert breaker.state(0.0) == "closed"
    outcomes(breaker, "x")
    assert breaker.state(0.0) == "open"


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_s": 0.0},
        {"probe_lease_s": 0.0},
        {"slow_s_min": -1.0},
        {"calls_min": 0},
        {"failures_min": 0},
        {"successes_to_close": 0},
        {"failure_share": -0.1},
        {"failure_share": 1.1},
        {"slow_share": 0.0},
        {"slow_share": 1.1},
        {"jitter_share": -0.1},
        {"jitter_share": 1.1},
        {"open_s_first": 0.0},
        {"open_s_first": 6.0, "open_s_max": 5.0},
        {"open_s_max": float("inf")},
        {"slow_factor": 0.9},
        {"window_s": float("nan")},
    ],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        BreakerRule(**wrong)


def test_edges_of_settings_are_allowed() -> None:
    BreakerRule(
        calls_min=1, slow_s_min=0.0, failure_share=1.0, slow_share=1.0, jitter_share=0.0, slow_factor=1.0,
        open_s_first=5.0, open_s_max=5.0,
    )  # fmt: skip


class BreakerMachine(RuleBasedStateMachine):
    """Against a model that remembers every outcome and does everything the slow way."""

    tickets = Bundle("tickets")
    RULE = BreakerRule(calls_min=5, window_s=30.0, open_s_max=20.0, successes_to_close=2, probe_lease_s=8.0)

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(self.RULE)
        self.now_s = 0.0
        self.mode = "closed"
        self.counted: list[tuple[int, str]] = []  # (slot of time, kind)
        self.valid: Ticket | None = None  # the live probe
        self.epoch_tickets: list[Ticket] = []  # closed: those of this time
        self.until_s = 0.0
        self.lease_s = 0.0
        self.pauses = 0
        self.good = 0
        self.answered_s = float("-inf")

    @rule(passed_s=st.integers(0, 12))
    def wait(self, passed_s: int) -> None:
        self.now_s += passed_s

    @rule(target=tickets)
    def admit(self) -> Ticket | None:
        ticket = self.breaker.admit(self.now_s)
        if self.mode == "closed":
            assert ticket is not None
            assert not ticket.probe
            self.epoch_tickets.append(ticket)
            return ticket
        free = self.now_s >= (self.until_s if self.mode == "open" else self.lease_s)
        assert (ticket is not None) == free
        if ticket is not None:
            assert ticket.probe
            self.mode, self.valid, self.lease_s = "half_open", ticket, self.now_s + 8.0
        return ticket

    @rule(ticket=tickets, kind=st.sampled_from(["good", "slow", "bad", "answered", "neutral"]))
    def report(self, ticket: Ticket | None, kind: str) -> None:
        if ticket is None:
            return
        now_s = self.now_s
        if kind == "bad":
            self.breaker.on_failure(now_s, ticket, luck=0.0)
        elif kind == "answered":
            self.breaker.on_answered(now_s, ticket)
        elif kind == "neutral":
            self.breaker.on_neutral(ticket)
        else:
            self.breaker.on_success(now_s, ticket, 20.0 if kind == "slow" else 0.1, 0.1)
        counts = ticket in self.epoch_tickets if self.mode == "closed" else ticket == self.valid
        if not counts:
            return
        if kind in ("good", "slow", "answered"):
            self.answered_s = now_s
        if self.mode == "closed":
            self._count(kind)
        else:
            self._probed(kind)

    def _count(self, kind: str) -> None:
        if kind in ("answered", "neutral"):
            return
        self.counted.append((int(self.now_s), kind))
        kinds = [kind for slot, kind in self.counted if slot > int(self.now_s) - WINDOW_STEPS]
        if kind == "good" or len(kinds) < 5:
            return
        if kinds.count("bad") >= max(1, len(kinds) / 2) or kinds.count("slow") >= 0.8 * len(kinds):
            self._open()

    def _probed(self, kind: str) -> None:
        self.valid = None
        self.lease_s = float("-inf")
        if kind == "bad":
            self.pauses += 1
            self._open()
        elif kind != "neutral":
            self.good += 1
            if self.good == 2:
                self.mode, self.counted, self.epoch_tickets, self.pauses = "closed", [], [], 0

    def _open(self) -> None:
        self.mode, self.good, self.valid = "open", 0, None
        silent_s = max(5.0, self.now_s - self.answered_s)
        self.until_s = self.now_s + min(20.0, silent_s, 5.0 * 2.0**self.pauses)

    @invariant()
    def same_state(self) -> None:
        mode = "half_open" if self.mode == "open" and self.now_s >= self.until_s else self.mode
        assert self.breaker.state(self.now_s) == mode
        due_s = {"closed": 0.0, "open": self.until_s, "half_open": self.lease_s}[self.mode]
        assert self.breaker.retry_after_s(self.now_s) == max(0.0, due_s - self.now_s)


BreakerMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase


def test_window_moves_step_by_step() -> None:
    """One call a second for two minutes: never more than 30 in the window."""
    breaker = Breaker(BreakerRule(calls_min=1000))
    for second in range(120):
        outcomes(breaker, "x", now_s=float(second))
        assert breaker._window.counts(float(second))[0] == min(30, second + 1)
    for gap_s, left in ((10, 20), (29, 1), (30, 0)):
        assert breaker._window.counts(119.0 + gap_s)[1] == left


def test_probe_that_ended_says_nothing_of_the_next() -> None:
    """Two probes never share a ticket, nor one with the time before the breaker opened."""
    breaker = opened(successes_to_close=2)
    first = leave(breaker, 10.0)
    breaker.on_neutral(first)
    second = leave(breaker, 10.0)
    assert second.generation > first.generation
    breaker.on_success(10.0, first, 0.1, base_s=0.1)
    breaker.on_failure(10.0, first, luck=0.0)
    assert (breaker.state(10.0), breaker.openings) == ("half_open", 1)
    breaker.on_success(10.0, second, 0.1, base_s=0.1)
    assert breaker.state(10.0) == "half_open"


@pytest.mark.parametrize("window_s", [6.0, 60.0])
def test_window_of_any_length_forgets_and_keeps(window_s: float) -> None:
    """Steps of other lengths than a second, also after the breaker has closed again."""
    rule = counting_rule(failures=3, window_s=window_s, open_s=1.0)
    for begun_s in (0.0, 1000.0):
        breaker = Breaker(rule)
        if begun_s:
            outcomes(breaker, "xxx", now_s=begun_s - 2.0)
            outcomes(breaker, ".", now_s=begun_s)
            assert breaker.state(begun_s) == "closed"
        outcomes(breaker, "xx", now_s=begun_s)
        outcomes(breaker, "x", now_s=begun_s + 1.1 * window_s)
        assert breaker.state(begun_s + 1.1 * window_s) == "closed", "the first two were forgotten"
        outcomes(breaker, "x", now_s=begun_s + 1.4 * window_s)
        outcomes(breaker, "x", now_s=begun_s + 1.9 * window_s)
        assert breaker.openings == (2 if begun_s else 1), "three within one window"


def test_upstream_that_answers_badly_is_looked_at_more_often() -> None:
    """A share of the time since it opened, at least the first pause; without an answer as before."""
    rule = BreakerRule(calls_min=1, open_s_first=1.0, answered_share=0.1, jitter_share=0.0)
    waits = {}
    for answered in (True, False):
        breaker, now_s = Breaker(rule), 0.0
        breaker.on_failure(now_s, leave(breaker, now_s), luck=0.0, answered=answered)
        waits[answered] = []
        while now_s < 60.0:
            wait_s = breaker.retry_after_s(now_s)
            waits[answered].append(wait_s)
            now_s += wait_s
            breaker.on_failure(now_s, leave(breaker, now_s), luck=0.0, answered=answered)
    assert waits[True][:10] == [1.0] * 10
    assert max(waits[True]) == pytest.approx(6.0, abs=0.6)
    assert waits[False] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_share_of_an_answered_outage_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError):
        BreakerRule(answered_share=share)
