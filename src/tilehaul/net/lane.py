"""One lane: who may send to one upstream, and when.

A first-come queue in front of the rules of `policy`, which must all agree before one more attempt is sent.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf

from tilehaul.codec.limit_fields import LIMIT_FIELDS, parse_limit_fields
from tilehaul.errors import BusyError, ThrottledError
from tilehaul.net.lane_paces import LanePaces
from tilehaul.net.lane_settings import HAND_BACK_S, OPENINGS_UNANSWERED_MAX, LaneSettings, LaneTools
from tilehaul.net.lane_view import LaneView
from tilehaul.policy.blame import Blame
from tilehaul.policy.breaker import BREAKER_PAUSING, BREAKER_SERVING, Breaker, Ticket
from tilehaul.policy.budget import RetryBudget
from tilehaul.policy.gate import Gate
from tilehaul.policy.lane_stats import LaneStats
from tilehaul.policy.limit import AdaptiveLimit
from tilehaul.policy.rate import Rate
from tilehaul.policy.shed import Shed
from tilehaul.ports.events import LaneHeld
from tilehaul.ports.wire import Response


class Lane:
    """The permits of one upstream. Each one is entered for, reported on once, and left.

    `in_flight` counts the permits out, `stats` what came of the attempts. The order of one attempt: `enter`,
    the attempt, one of `on_success`, `on_push_back`, `on_failure`, `on_refusal`, `on_neutral`, and `leave` in
    any case.

    `rate`: several lanes may keep one together; None: none.
    """

    __slots__ = (
        "_adaptive",
        "_answered",
        "_blame",
        "_cause",
        "_luck",
        "_now_s",
        "_paces",
        "_settings",
        "_shed",
        "_timer",
        "_tools",
        "_waiting",
        "_wakes_s",
        "breaker",
        "budget",
        "gate",
        "in_flight",
        "lane_class",
        "limit",
        "name",
        "pace",
        "rate_per_s",
        "stats",
        "view",
    )

    def __init__(
        self, name: str, lane_class: str, settings: LaneSettings, tools: LaneTools, rate: Rate | None = None
    ) -> None:
        self.name = name
        self.lane_class = lane_class
        self.rate_per_s = None if rate is None else rate.per_s
        self.limit = settings.new_limit(lane_class)
        self.gate = Gate()
        self._paces = LanePaces(rate)
        self.pace = self._paces.own
        self.breaker = Breaker(BREAKER_PAUSING if settings.pause else BREAKER_SERVING)
        self.budget = RetryBudget()
        self.stats = LaneStats()
        self.view = LaneView(self)
        self.in_flight = 0
        # A fixed lane does what its owner says: the gate holds it, nothing is learned and no pace is kept.
        self._adaptive = self.limit if isinstance(self.limit, AdaptiveLimit) else None
        self._blame = None if self._adaptive is None else Blame(self._adaptive, self.pace)
        self._shed = None if self._adaptive is None else Shed(self._adaptive)
        self._answered = False
        # Of the last failure.
        self._cause = ""
        self._settings = settings
        self._tools = tools
        # Looked up once: these are asked several times for each tile.
        self._now_s = tools.clock.now_s
        self._luck = tools.luck
        self._waiting: deque[asyncio.Future[Ticket]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._wakes_s = inf

    async def enter(self) -> Ticket:
        """Wait for a permit.

        Raises:
            ThrottledError: The gate stays closed for longer than `wait_s_max` (cause `held`).
            BusyError: This is not waited for: see `LaneSettings.pause` and `hand_back`.
        """
        if not self._waiting and self.in_flight < self.limit.limit:
            now_s = self._now_s()
            if self._wait_s(now_s) == 0.0 and (ticket := self.breaker.admit(now_s)) is not None:
                self._take(now_s)
                return ticket
        turn: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self.gate.until_s:
            self.refuse_if_held(self._now_s())
        if self.in_flight < self.limit.limit:
            self._pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # The permit was handed over in the moment of the cancellation.
                self.breaker.on_neutral(turn.result())
                self.leave()
            raise

    def leave(self) -> None:
        """Give the permit back; whoever may send now is let through."""
        self.in_flight -= 1
        if self._waiting:
            self._pump()

    def on_success(self, ticket: Ticket, response: Response, sent_s: float) -> None:
        """An answer that is what was asked for, or that says "none"; `sent_s` is when it was asked."""
        now_s = self._now_s()
        self._answered = True
        adaptive = self._adaptive
        if response.status in (200, 206, 304):
            openings = self.breaker.openings
            base_s = None if adaptive is None else adaptive.base_s
            self.breaker.on_success(now_s, ticket, response.ttfb_s, base_s)
            if self.breaker.openings != openings:
                self._tell_open(now_s)
        else:
            self.breaker.on_answered(now_s, ticket)
        if self._shed is not None:
            self._shed.on_success(now_s)
        changed = False
        if adaptive is not None:
            is_tile, ttfb_s = response.status in (200, 206), response.ttfb_s
            changed = adaptive.on_success(now_s, ttfb_s, self.in_flight, self._luck(), is_tile=is_tile)
            self.pace.on_success(now_s)
        if self.gate.until_s:
            self.gate.open_again(sent_s)
        self.budget.on_success()
        self.stats.on_answer(now_s, response.ttfb_s, response.total_s)
        if changed or self.view.troubled:
            self.look(now_s)
        if not LIMIT_FIELDS.isdisjoint(response.headers):
            self._heed_quota(now_s, response)
            self.look(now_s)

    def on_push_back(self, ticket: Ticket, retry_after_s: float | None) -> None:
        """The upstream asked for less: the whole lane is held, and its limit cut if load is to blame."""
        now_s = self._now_s()
        self._answered = True
        self._tools.tally.pushed_back += 1
        self.breaker.on_neutral(ticket)
        spell = self.gate.spell(now_s)
        hold_s = self._hold(now_s, retry_after_s)
        if self._blame is not None:
            self._blame.on_push_back(now_s, now_s + hold_s, spell)

    def on_failure(self, ticket: Ticket, cause: str, *, answered: bool, repeated: bool) -> None:
        """The attempt failed at the upstream's side. `answered`: it is there, and said so. `repeated`: it has
        answered this very tile so before, which is no news: the last tiles of a job may be broken for good.
        """
        now_s = self._now_s()
        self._answered = self._answered or answered
        self._cause = cause
        openings = self.breaker.openings
        if self._shed is not None:
            self._shed.on_failure(now_s, self.in_flight)
        if repeated and not ticket.probe:
            self.breaker.on_neutral(ticket)
            return
        self.breaker.on_failure(now_s, ticket, self._luck(), answered=answered)
        if self.breaker.openings != openings:
            self._tell_open(now_s)

    def on_refusal(self, ticket: Ticket) -> None:
        """The upstream refused this request, and is well."""
        self._answered = True
        self.breaker.on_answered(self._now_s(), ticket)

    def on_neutral(self, ticket: Ticket) -> None:
        """The attempt says nothing of the upstream: cancelled, or an error of our own."""
        self.breaker.on_neutral(ticket)

    def look(self, now_s: float) -> None:
        """Tell how the lane has changed since the last look, if it has."""
        changed = self.view.look(self, now_s)
        if changed is not None and self._tools.tell is not None:
            self._tools.tell(changed)

    @property
    def queue_depth(self) -> int:
        """Attempts that wait for a permit."""
        # Who was cancelled stands in the line until its turn comes.
        return sum(not turn.done() for turn in self._waiting)

    async def aclose(self) -> None:
        """End the timer. Nobody may be waiting any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            await asyncio.wait({timer})

    def _pump(self) -> None:
        """Let through whoever may send now, and see to it that the next one is not forgotten."""
        waiting = self._waiting
        while waiting:
            if waiting[0].done():
                waiting.popleft()  # cancelled while it waited
                continue
            if self.in_flight >= self.limit.limit:
                return
            now_s = self._now_s()
            wait_s = self._wait_s(now_s)
            if wait_s > 0.0:
                self._arm(now_s, wait_s)
                return
            ticket = self.breaker.admit(now_s)
            if ticket is None:
                self._stay_out(now_s)
                return
            self._take(now_s)
            waiting.popleft().set_result(ticket)

    def _wait_s(self, now_s: float) -> float:
        """Seconds until gate, paces and rate let one more attempt through; 0.0: now."""
        wait_s = 0.0
        if self.gate.until_s:
            wait_s = self.gate.wait_s(now_s, self.in_flight)
        return max(wait_s, self._paces.wait_s(now_s))

    def _take(self, now_s: float) -> None:
        self._paces.take(now_s)
        self.in_flight += 1
        if self.view.troubled:
            # Gates open by the clock, and nobody says so.
            self.look(now_s)

    def _heed_quota(self, now_s: float, response: Response) -> None:
        quota = parse_limit_fields(response.headers, wall_s=self._tools.clock.wall_s()).quota
        if quota is not None:
            # While somebody waits, the permits that come back are used at once.
            wanted = max(self.in_flight, self.limit.limit) if self._waiting else self.in_flight
            self._paces.quota.on_quota(now_s, quota.pace_per_s(wanted), quota.reset_s or 0.0)
            if quota.hold_s is not None:
                # Nothing is left, and nobody was refused: a wait, but no reason to send less at once.
                self._hold(now_s, quota.hold_s)

    def _hold(self, now_s: float, asked_s: float | None) -> float:
        """Close the gate; tell it, and those for whom it is too long. Seconds until it opens."""
        tools = self._tools
        held_before_s, hold_s = self.gate.held_s, self.gate.hold(now_s, asked_s, self._luck())
        added_s = self.gate.held_s - held_before_s
        tools.tally.push_back_s += added_s
        if added_s > 0.0 and tools.tell is not None:
            tools.tell(LaneHeld(self.name, hold_s, self.gate.parked(now_s) or ""))
        if added_s > 0.0 and tools.held is not None:
            tools.held(self.name, hold_s)
        self.refuse_if_held(now_s)
        return hold_s

    def refuse_if_held(self, now_s: float) -> None:
        """Turn away all who wait when the gate stays closed for longer than they may wait here."""
        wait_s = self.gate.wait_s(now_s)
        said = f"{self.name} asked us to wait, {wait_s:.0f} s from now"
        if wait_s > self._settings.wait_s_max:
            self.turn_away(lambda: ThrottledError(said, retry_after_s=wait_s, cause="held"))
        elif self._settings.hand_back and wait_s >= HAND_BACK_S:
            self.turn_away(lambda: BusyError(said, retry_after_s=wait_s))

    def _stay_out(self, now_s: float) -> None:
        """The breaker is open: wait for its next probe, or turn away all who wait."""
        wait_s = self.breaker.retry_after_s(now_s)
        never = not self._answered and self.breaker.openings >= OPENINGS_UNANSWERED_MAX
        # Half open, the probe's answer decides soon.
        far = self._settings.hand_back and wait_s >= HAND_BACK_S and self.breaker.state(now_s) == "open"
        if self._settings.pause and not never and not far:
            self._arm(now_s, wait_s)
            return
        why = f" ({self._cause})" if self._cause else ""
        what = "has answered nothing yet" if never else "of this tile fails"
        said = f"the origin {what}{why} and is left alone"
        self.turn_away(lambda: BusyError(said, retry_after_s=wait_s, never_answered=never))

    def turn_away(self, error: Callable[[], Exception]) -> None:
        """Fail all who wait for a permit, each with an error of its own."""
        turns, self._waiting = self._waiting, deque()
        for turn in (turn for turn in turns if not turn.done()):
            turn.set_exception(error())

    def _tell_open(self, now_s: float) -> None:
        self.look(now_s)
        if self._tools.tell is not None:
            wait_s = self.breaker.retry_after_s(now_s)
            self._tools.tell(LaneHeld(self.name, wait_s, "fails or is far too slow: left alone"))

    def _arm(self, now_s: float, wait_s: float) -> None:
        """Have `_pump` run in `wait_s` seconds, or earlier: it looks again then."""
        if self._timer is not None:
            if self._wakes_s <= now_s + wait_s:
                return
            self._timer.cancel()
        self._wakes_s = now_s + wait_s
        self._timer = asyncio.get_running_loop().create_task(self._wake(wait_s))

    async def _wake(self, delay_s: float) -> None:
        await self._tools.clock.sleep(delay_s)
        self._timer = None
        self._pump()
