"""The lane as a whole, in virtual time: every rule of `policy` is heeded, and nobody is forgotten."""

import asyncio
import itertools
from collections.abc import Callable
from math import inf

import pytest

from doubles.clock import VirtualClock, in_virtual_time
from doubles.wire import answer
from tilehaul.errors import (
    BrokenError,
    BusyError,
    ConfigError,
    RefusedError,
    ThrottledError,
    UnreachableError,
)
from tilehaul.net.lane import OPENINGS_UNANSWERED_MAX, Lane
from tilehaul.net.lane_pool import lane_key
from tilehaul.net.lane_settings import LaneSettings
from tilehaul.net.laned import LanedSender
from tilehaul.net.retried import RetriedSender
from tilehaul.policy.limit import AdaptiveLimit
from tilehaul.policy.limit_rule import LimitRule
from tilehaul.policy.retry import RetryRule
from tilehaul.policy.tally import Tally
from tilehaul.ports.correlation import REPEATED
from tilehaul.ports.events import LaneChanged, LaneHeld
from tilehaul.ports.wire import Request, Response

A = Request("http://a.test/1")
B = Request("http://b.test/1")
Step = Response | Exception


class TimedWire:
    """Takes `ttfb_s` of virtual time for each answer, which a function of the sending time decides."""

    def __init__(
        self, clock: VirtualClock, step: Callable[[Request, float], Step], ttfb_s: float = 0.1
    ) -> None:
        self.clock = clock
        self.step = step
        self.ttfb_s = ttfb_s
        self.sent_s: list[float] = []
        self.in_flight = 0
        self.peaks: list[tuple[float, int]] = []

    async def send(self, request: Request) -> Response:
        sent_s = self.clock.now_s() - 1000.0
        self.sent_s.append(sent_s)
        self.in_flight += 1
        self.peaks.append((sent_s, self.in_flight))
        step = self.step(request, sent_s)
        try:
            await self.clock.sleep(self.ttfb_s)
        finally:
            self.in_flight -= 1
        if isinstance(step, Exception):
            raise step
        return step._replace(ttfb_s=self.ttfb_s)

    def peak(self, from_s: float, to_s: float) -> int:
        return max((peak for when_s, peak in self.peaks if from_s <= when_s < to_s), default=0)


def good(_request: Request, _sent_s: float) -> Step:
    return answer()


class Rig:
    """A laned sender over a timed wire."""

    def __init__(self, step: Callable[[Request, float], Step] = good, **settings: object) -> None:
        self.clock = VirtualClock()
        self.wire = TimedWire(self.clock, step)
        self.tally = Tally()
        self.told: list[LaneHeld] = []
        self.changes: list[LaneChanged] = []
        self.luck = 0.0
        self.sender = LanedSender(
            self.wire,
            LaneSettings(**settings),  # type: ignore[arg-type]
            clock=self.clock,
            luck=lambda: self.luck,
            tally=self.tally,
            tell=self._take,
        )
        rule = RetryRule(attempts_max=3)
        self.retried = RetriedSender(self.sender, rule, self.clock, lambda: 0.5, self.tally)

    def _take(self, event: LaneHeld | LaneChanged) -> None:
        if isinstance(event, LaneHeld):
            self.told.append(event)
        else:
            self.changes.append(event)

    def lane(self, request: Request = A) -> Lane:
        return self.sender._lane_of(request)

    async def flood(self, seconds: float, workers: int = 64, request: Request = A) -> list[Exception]:
        """Work without end, for so long; the errors that came."""
        errors: list[Exception] = []

        async def work() -> None:
            while self.clock.now_s() < 1000.0 + seconds:
                try:
                    await self.sender.send(request)
                except (BrokenError, ThrottledError, BusyError, UnreachableError) as error:
                    errors.append(error)

        await self.all(*(work() for _ in range(workers)))
        return errors

    async def all(self, *coroutines: object) -> object:
        return await in_virtual_time(
            self.clock,
            asyncio.gather(*coroutines, return_exceptions=True),  # type: ignore[call-overload]
        )


async def test_slow_start_begins_low_and_reaches_the_cap() -> None:
    rig = Rig(limit=32)
    await rig.flood(12.0)
    assert rig.wire.peak(0.0, 0.9) == 4
    assert rig.wire.peak(10.0, 12.0) == rig.lane().limit.limit == 32
    assert max(peak for _, peak in rig.wire.peaks) == 32


@pytest.mark.parametrize("cap", [1, 3, 40])
async def test_cap_of_the_user_wins_in_both_directions(cap: int) -> None:
    rig = Rig(limit=cap)
    await rig.flood(12.0 if cap == 40 else 3.0)
    assert max(peak for _, peak in rig.wire.peaks) == cap


async def test_fixed_limit_is_there_from_the_first_moment_and_is_not_cut() -> None:
    rig = Rig(lambda _, sent_s: ThrottledError("x", retry_after_s=1.0) if sent_s < 0.5 else answer(), limit=9)
    rig = Rig(rig.wire.step, limit=9, adaptive=False)
    await rig.flood(3.0)
    assert rig.wire.peak(0.0, 0.1) == rig.lane().limit.limit == 9


async def test_volley_of_push_back_cuts_the_limit_once() -> None:
    """Twelve refusals of one moment are one sign."""
    refuse: list[bool] = []
    rig = Rig(lambda _, _s: ThrottledError("x", retry_after_s=2.0) if refuse else answer())
    await rig.flood(5.0)
    before = rig.lane().limit.limit
    refuse.append(True)
    refused = await rig.all(*(rig.sender.send(A) for _ in range(before)))
    assert isinstance(refused, list)
    assert all(isinstance(error, ThrottledError) for error in refused)
    assert rig.tally.pushed_back == before > 4
    assert rig.lane().limit.limit == int(before * 0.7)
    assert len(rig.told) == 1


async def test_lane_comes_back_slot_by_slot_after_a_gate() -> None:
    """Not a whole lane in the instant the gate opens."""
    rig = Rig(
        lambda _, sent_s: ThrottledError("x", retry_after_s=2.0) if sent_s == 0.0 else answer(), limit=32
    )
    await rig.flood(4.0)
    opened_s = rig.wire.sent_s[4]
    assert opened_s == pytest.approx(2.1)
    assert [when_s for when_s in rig.wire.sent_s if opened_s <= when_s < opened_s + 0.04] == [opened_s]


async def test_push_back_that_does_not_follow_load_does_not_cut_the_limit() -> None:
    """Refused for 0.3 s of every 3 s, whatever is sent: after the third time the lane grows to its cap."""
    rig = Rig(lambda _, sent_s: ThrottledError("x", retry_after_s=1.0) if sent_s % 3.0 >= 2.7 else answer())
    await rig.flood(45.0)
    lane = rig.lane()
    assert rig.clock.now_s() < lane._blame.until_s
    assert (lane.limit.limit, lane.pace.per_s) == (32, inf)
    # Two of three seconds, 32 at once, 0.1 s each.
    in_nine_s = sum(33.0 <= when_s < 42.0 for when_s in rig.wire.sent_s)
    assert in_nine_s > 0.9 * 9.0 * 320.0 * 1.9 / 3.0


async def test_fixed_lane_keeps_no_pace() -> None:
    rig = Rig(
        lambda _, sent_s: ThrottledError("x", retry_after_s=1.0) if sent_s % 2.0 >= 1.7 else answer(),
        adaptive=False,
    )
    await rig.flood(20.0)
    assert (rig.lane().pace.per_s, rig.wire.peak(18.0, 20.0)) == (inf, 32)


def outage(from_s: float, to_s: float, error: Exception | None = None) -> Callable[[Request, float], Step]:
    return lambda _, sent_s: (error or BrokenError("x")) if from_s <= sent_s < to_s else answer()


async def test_09_half_open_stampede() -> None:
    """Five hundred wait: the upstream sees one request per pause, and three good ones close the breaker."""
    rig = Rig(outage(1.0, 12.0, UnreachableError("x")), limit=8)
    await rig.flood(24.0, workers=500)
    breaker = rig.lane().breaker
    assert (breaker.openings, breaker.state(rig.clock.now_s())) == (4, "closed")
    assert all("left alone" in event.reason for event in rig.told)
    assert [event.delay_s for event in rig.told] == pytest.approx([1.0, 2.0, 4.0, 8.0], abs=0.05)
    sent_s = rig.wire.sent_s
    before = next(index for index, when_s in enumerate(sent_s) if sent_s[index + 1] - when_s > 0.9)
    # Three that fail, each pause twice the one before; three that do not; then all again.
    gaps_s = [sent_s[before + step + 1] - sent_s[before + step] for step in range(6)]
    assert gaps_s == pytest.approx([1.1, 2.1, 4.1, 8.1, 0.1, 0.1], abs=0.11)
    assert rig.wire.peak(sent_s[before + 1], sent_s[before + 6] + 0.09) == 1
    assert rig.wire.peak(20.0, 24.0) == 8


async def test_10_probe_lost() -> None:
    """The one who held the probe goes away: the next in line is the probe."""
    rig = Rig(outage(0.5, 1.6), limit=4)
    await rig.flood(0.7, workers=4)
    rig.luck = 0.0
    waiting = [asyncio.ensure_future(rig.sender.send(A)) for _ in range(5)]
    while rig.lane().breaker.state(rig.clock.now_s()) == "closed":
        await rig.all(rig.clock.sleep(0.05))
        if all(task.done() for task in waiting):
            waiting = [asyncio.ensure_future(rig.sender.send(A)) for _ in range(5)]
    waiting = [asyncio.ensure_future(rig.sender.send(A)) for _ in range(5)]
    await asyncio.sleep(0)
    count = len(rig.wire.sent_s)
    await rig.all(rig.clock.sleep(1.01))
    assert len(rig.wire.sent_s) == count + 1
    waiting[0].cancel()
    await rig.all(*waiting)
    assert [task.cancelled() for task in waiting] == [True, False, False, False, False]
    assert rig.lane().in_flight == 0
    assert rig.clock.now_s() < 1010.0


async def test_11_stale_success() -> None:
    """A good answer to what was sent before the breaker opened: nothing changes, nobody is let in for it."""
    rig = Rig(outage(0.0, 60.0), limit=8, adaptive=False)
    lane = rig.lane()
    stale = await lane.enter()
    await rig.all(*(rig.sender.send(A) for _ in range(20)))
    assert lane.breaker.state(rig.clock.now_s()) == "open"
    waiting = [asyncio.ensure_future(rig.sender.send(A)) for _ in range(5)]
    await asyncio.sleep(0)
    before = (lane.breaker.retry_after_s(rig.clock.now_s()), lane.limit.limit, len(rig.wire.sent_s))
    lane.on_success(stale, answer(), 0.0)
    lane.leave()
    await asyncio.sleep(0)
    assert lane.breaker.state(rig.clock.now_s()) == "open"
    assert before == (
        lane.breaker.retry_after_s(rig.clock.now_s()), lane.limit.limit, len(rig.wire.sent_s),
    )  # fmt: skip
    for task in waiting:
        task.cancel()
    await rig.all(*waiting)
    assert lane.in_flight == 0


def state_of(part: object) -> dict[str, object]:
    names = type(part).__slots__  # type: ignore[attr-defined]
    values = {name: getattr(part, name) for name in names if not name.startswith("_window")}
    return {name: list(value) if isinstance(value, list) else value for name, value in values.items()}


async def test_12_cancel_neutral() -> None:
    rig = Rig(limit=1000)
    lane = rig.lane()
    lane.limit = lane._adaptive = AdaptiveLimit(LimitRule(start=1000, most=1000))
    parts = (lane.limit, lane.breaker, lane.budget, lane.gate, lane.pace)
    before = [state_of(part) for part in parts]
    counts = lane.breaker._window.counts(rig.clock.now_s())
    tasks = [asyncio.ensure_future(rig.sender.send(A)) for _ in range(1500)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (lane.in_flight, rig.wire.in_flight) == (1000, 1000)
    for task in tasks:
        task.cancel()
    await rig.all(*tasks)
    assert all(task.cancelled() for task in tasks)
    assert [state_of(part) for part in parts] == before
    assert lane.breaker._window.counts(rig.clock.now_s()) == counts == (0, 0, 0)
    assert lane.in_flight == 0
    await rig.all(rig.sender.send(A))
    assert len(rig.wire.sent_s) == 1001


async def test_permit_handed_to_one_who_is_cancelled_goes_on_to_the_next() -> None:
    """The cancellation comes in the same moment as the permit."""
    rig = Rig(limit=1, adaptive=False)
    lane = rig.lane()
    ticket = await lane.enter()
    turns = [asyncio.ensure_future(lane.enter()) for _ in range(2)]
    await asyncio.sleep(0)
    lane.on_neutral(ticket)
    lane.leave()
    turns[0].cancel()
    await asyncio.wait(turns)
    assert turns[0].cancelled()
    assert lane.in_flight == 1
    assert turns[1].result() == ticket


async def test_rate_limit_spaces_requests_evenly() -> None:
    rig = Rig(limit=32, rate_per_s=10.0)
    await rig.all(*(rig.sender.send(A) for _ in range(31)))
    assert rig.wire.sent_s == pytest.approx([step / 10 for step in range(31)])


async def test_quota_without_rest_holds_the_lane_and_cuts_nothing() -> None:
    """A 200 that says "none left for 7 s": nobody is refused, nobody sends."""
    rig = Rig(lambda _, sent_s: answer(ratelimit='"a";r=0;t=7') if sent_s < 1.0 else answer())
    await rig.all(rig.sender.send(A))
    await rig.all(rig.sender.send(A))
    assert rig.wire.sent_s == pytest.approx([0.0, 7.1])
    assert (rig.tally.pushed_back, rig.lane().limit.limit) == (0, 4)
    assert [(event.lane, event.delay_s, event.reason) for event in rig.told] == [("a.test (tile)", 7.0, "")]


async def test_quota_with_little_rest_is_spread_over_its_time() -> None:
    """Two left for four seconds and four under way: one more each two seconds until the reset."""
    rig = Rig(lambda _, sent_s: answer(ratelimit='"a";r=2;t=4') if sent_s < 0.1 else answer())
    await rig.all(*(rig.sender.send(A) for _ in range(8)))
    assert rig.wire.sent_s == pytest.approx([0.0, 0.0, 0.0, 0.0, 2.1, 4.1, 4.1, 4.1], abs=0.11)


async def test_07_blackhole_of_one_host_leaves_the_other_alone() -> None:
    """One host fails, the other's lane grows as if alone."""
    rig = Rig(lambda request, _: BrokenError("x") if request is A else answer(), limit=16)
    alone = Rig(limit=16)
    await alone.flood(6.0, workers=32, request=B)

    async def other() -> None:
        while rig.clock.now_s() < 1006.0:
            try:
                await rig.sender.send(A)
            except (BrokenError, BusyError):
                await rig.clock.sleep(0.05)

    workers = [asyncio.ensure_future(other()) for _ in range(8)]
    await rig.flood(6.0, workers=32, request=B)
    for worker in workers:
        worker.cancel()
    assert rig.lane(A).breaker.openings > 0
    assert rig.lane(B).breaker.openings == 0
    assert rig.lane(B).limit.limit == alone.lane(B).limit.limit == 16


async def test_service_is_told_at_once_that_the_upstream_is_left_alone() -> None:
    """BusyError with the time of the next try; nothing is sent meanwhile, and then it goes on."""
    rig = Rig(outage(0.0, 3.0), limit=8, pause=False)
    await rig.all(*(rig.sender.send(A) for _ in range(12)))
    count = len(rig.wire.sent_s)
    for _ in range(20):
        with pytest.raises(BusyError) as caught:
            await rig.sender.send(A)
        assert caught.value.retry_after_s == pytest.approx(5.0, abs=0.5)
    assert len(rig.wire.sent_s) == count <= 12
    rig.clock.advance(5.0)
    for _ in range(3):
        await rig.all(rig.sender.send(A))
    assert rig.lane().breaker.state(rig.clock.now_s()) == "closed"


async def test_outage_costs_a_job_no_tile() -> None:
    """Away for 40 s, which three attempts with backoff would not survive: all wait, all come."""
    rig = Rig(outage(2.0, 42.0), limit=4)
    await rig.flood(2.0, workers=4)
    for _ in range(8):
        # Those under way when it broke may fail for good; what comes after the opening may not.
        await rig.all(*(rig.sender.send(A) for _ in range(4)))
        if rig.lane().breaker.openings:
            break
    results = await rig.all(*(rig.retried.send(A) for _ in range(50)))
    assert isinstance(results, list)
    failed = [result for result in results if isinstance(result, Exception)]
    assert failed == []
    assert rig.clock.now_s() > 1042.0


async def test_upstream_that_never_answered_is_not_waited_for_long() -> None:
    """A wrong address: the job learns it after four openings, not after half an hour; and why."""
    rig = Rig(outage(0.0, 1e9, UnreachableError("x", cause="dns")), limit=8)
    errors = await rig.flood(5.5, workers=30)
    assert rig.lane().breaker.openings == OPENINGS_UNANSWERED_MAX
    with pytest.raises(BusyError, match=r"has answered nothing yet \(dns\)"):
        await rig.sender.send(A)
    assert {type(error) for error in errors} == {UnreachableError, BusyError}


async def test_upstream_that_answers_with_failures_only_is_waited_for() -> None:
    """A page of maintenance is an answer: the job pauses, looks every second or so, and goes on after it."""
    rig = Rig(outage(0.0, 40.0), limit=8)
    errors = await rig.flood(60.0, workers=30)
    assert BusyError not in {type(error) for error in errors}
    assert 5 <= rig.lane().breaker.openings <= 60
    assert rig.lane().breaker.state(rig.clock.now_s()) == "closed"


async def test_retry_refused_by_the_breaker_tells_what_was_wrong_at_first() -> None:
    rig = Rig(outage(0.0, 1e9), limit=8, pause=False)
    results = await rig.all(*(rig.retried.send(A) for _ in range(12)))
    assert isinstance(results, list)
    assert all(isinstance(error, BrokenError) and error.attempts >= 1 for error in results[:8])


async def test_empty_budget_lets_one_retry_a_second_through() -> None:
    """As long as they fail. Waiting for it costs no attempt: every item comes in the end."""
    rig = Rig(outage(0.0, 4.5), limit=8, adaptive=False)
    rig.lane().budget.tokens = 0.0
    results = await rig.all(*(rig.retried.send(A) for _ in range(5)))
    assert isinstance(results, list)
    assert all(isinstance(result, Response) for result in results)
    retries_s = [sent_s for sent_s in rig.wire.sent_s[5:] if sent_s < 4.5]
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(retries_s)]
    assert gaps_s == pytest.approx([1.0] * 4, abs=0.01)


async def test_budget_that_stays_empty_for_too_long_ends_the_item() -> None:
    rig = Rig(outage(0.0, 1e9), adaptive=False)
    sender = RetriedSender(rig.sender, RetryRule(wait_s_max=3.0), rig.clock, lambda: 0.0, rig.tally)
    rig.lane().budget.tokens = 0.0
    rig.lane().budget._floor_s = 2000.0
    with pytest.raises(BrokenError) as caught:
        await in_virtual_time(rig.clock, sender.send(A))
    assert caught.value.attempts == 1


async def test_refused_by_us_is_no_answer_of_the_upstream() -> None:
    """A forbidden address, asked as a probe, does not close a breaker."""
    step: list[Step] = []
    rig = Rig(lambda _, sent_s: step[0] if step else outage(0.5, 3.0)(A, sent_s), limit=8)
    await rig.flood(0.7, workers=8)
    breaker = rig.lane().breaker
    while breaker.openings == 0:
        await rig.all(*(rig.sender.send(A) for _ in range(8)))
    step.append(RefusedError("x", cause="refused_address"))
    rig.clock.advance(5.0)
    for _ in range(5):
        await rig.all(rig.sender.send(A))
    assert breaker.state(rig.clock.now_s()) == "half_open"
    step[0] = RefusedError("x", cause="http_400")
    for _ in range(3):
        await rig.all(rig.sender.send(A))
    assert breaker.state(rig.clock.now_s()) == "closed"


async def test_timer_ends_with_the_sender() -> None:
    rig = Rig(rate_per_s=0.01)
    await rig.all(rig.sender.send(A))
    waiting = asyncio.ensure_future(rig.sender.send(A))
    await asyncio.sleep(0)
    timer = rig.lane()._timer
    assert timer is not None
    waiting.cancel()
    await rig.sender.aclose()
    assert timer.cancelled()


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 1001}, {"start": 0}, {"rate_per_s": 0.0}, {"rate_per_s": -1.0}]
)
def test_wrong_settings_are_refused_before_anything_is_sent(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LaneSettings(**wrong)  # type: ignore[arg-type]


async def test_upstream_that_sheds_load_without_a_word_is_not_hammered() -> None:
    """Three at once, one more: 503 at once. The limit falls below; the breaker has no reason to open."""
    rig = Rig(limit=16)
    rig.wire.step = lambda _, _s: answer() if rig.wire.in_flight <= 3 else BrokenError("x", cause="http_503")
    errors = await rig.flood(30.0, workers=30)
    assert rig.lane().breaker.openings == 0
    # Thirty answers a second are the best.
    assert len(rig.wire.sent_s) - len(errors) >= 0.75 * 30 * 30
    assert len(errors) <= 0.1 * len(rig.wire.sent_s)


async def test_a_held_lane_hands_back_who_would_wait_long() -> None:
    """A job's workers go on with other hosts; a short wait stays a wait."""

    def step(_request: Request, sent_s: float) -> Step:
        return ThrottledError("wait", retry_after_s=20.0, cause="http_429") if sent_s < 1.0 else answer()

    rig = Rig(step, hand_back=True)
    with pytest.raises(ThrottledError):
        await in_virtual_time(rig.clock, rig.sender.send(A))
    with pytest.raises(BusyError) as caught:
        await in_virtual_time(rig.clock, rig.sender.send(A))
    assert 19.0 < caught.value.retry_after_s <= 20.0
    assert len(rig.wire.sent_s) == 1
    rig.clock.advance(16.0)
    begun_s = rig.clock.now_s()
    await in_virtual_time(rig.clock, rig.sender.send(A))
    assert 0.0 < rig.clock.now_s() - begun_s < 5.0


async def test_nothing_is_sent_after_a_lane_turned_all_away() -> None:
    """Who waits for a permit and whoever comes is told; what was sent is awaited."""
    rig = Rig(limit=1, adaptive=False)
    first, second = (asyncio.ensure_future(rig.sender.send(A)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rig.sender.turn_away()
    with pytest.raises(BusyError, match="job ends"):
        await rig.sender.send(B)
    assert (await in_virtual_time(rig.clock, first)) is not None
    with pytest.raises(BusyError, match="job ends"):
        await second
    assert len(rig.wire.sent_s) == 1


async def test_permit_handed_over_in_the_moment_of_cancellation_frees_the_probe() -> None:
    """The next in line is the probe, at once, and not after the lease of one that nobody sends."""
    rig = Rig(outage(0.0, 30.0), limit=1)
    lane = rig.lane()
    await rig.flood(3.0, workers=4)
    rig.clock._now_s += 200.0
    ticket = await lane.enter()
    assert ticket.probe
    waiting = asyncio.ensure_future(lane.enter())
    await asyncio.sleep(0)
    lane.on_neutral(ticket)
    lane.leave()
    # It has the permit by now, and has not been told yet.
    assert lane.in_flight == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert lane.in_flight == 0
    assert (await lane.enter()).probe


async def test_probe_that_is_pushed_back_frees_its_place() -> None:
    """A 429 says nothing of health: the gate holds, then the next probe goes, with no lease to wait for."""
    rig = Rig(outage(0.0, 5.0), limit=4)
    lane = rig.lane()
    await rig.flood(3.0, workers=4)
    rig.clock._now_s += 200.0
    ticket = await lane.enter()
    assert ticket.probe
    lane.on_push_back(ticket, 1.0)
    lane.leave()
    assert lane.breaker.retry_after_s(rig.clock.now_s()) == 0.0


async def test_answered_failure_of_the_same_tile_again_is_no_news() -> None:
    """However often: only tiles that have not failed so before open the breaker."""
    rig = Rig(lambda *_: BrokenError("x"), limit=4)
    REPEATED.set(True)
    await rig.flood(30.0, workers=4)
    assert (rig.lane().breaker.openings, rig.lane().breaker.state(rig.clock.now_s())) == (0, "closed")
    REPEATED.set(False)
    await rig.flood(90.0, workers=4)
    assert rig.lane().breaker.openings > 0


async def test_used_up_quota_is_told_as_a_change() -> None:
    quota = answer(ratelimit='"default";r=0;t=20')
    rig = Rig(lambda *_: quota, limit=4)
    await rig.all(rig.sender.send(A))
    assert [change.gate for change in rig.changes][-1:] == ["held"]


def test_cancelled_do_not_count_as_waiting() -> None:
    async def run() -> None:
        rig = Rig(limit=1)
        lane = rig.lane()
        await lane.enter()
        waiting = [asyncio.ensure_future(lane.enter()) for _ in range(5)]
        await asyncio.sleep(0)
        assert lane.queue_depth == 5
        for one in waiting[1:]:
            one.cancel()
        await asyncio.sleep(0)
        assert lane.queue_depth == 1
        waiting[0].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    [
        "http://HOST.test/a",
        "HTTP://host.test/a",
        "http://host.test:80/a",
        "http://u:p@host.test/a",
        "http://host.test./a",
    ],
)
def test_one_upstream_has_one_lane_however_it_is_spelled(url: str) -> None:
    assert lane_key(Request(url)) == lane_key(Request("http://host.test/b?c"))
    assert lane_key(Request("https://host.test:443/a"))[0] == "https://host.test"
    assert lane_key(Request("http://host.test:8080/a"))[0] == "http://host.test:8080"
    assert lane_key(Request("http://[::1]:80/a"))[0] == "http://[::1]"
