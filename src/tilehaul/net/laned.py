"""Lanes: one limit and one gate for everything sent to one upstream."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tilehaul.errors import PlanError, ThrottledError
from tilehaul.policy.gate import Gate
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock, Luck
from tilehaul.ports.wire import Request, Response, Sender

# A service that is given ever new hosts must not grow for ever.
LANES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """`limit`: attempts under way at once in one lane, >= 1 (`--concurrency`).

    `wait_s_max`: a lane that is held for longer than this answers ThrottledError at once.
    """

    limit: int = 32
    wait_s_max: float = 1800.0


class Lane:
    """At most `limit` permits at once, first come first served, none while the gate is closed."""

    def __init__(self, name: str, settings: LaneSettings) -> None:
        self.name = name
        self.gate = Gate()
        self.in_flight = 0
        self._limit = settings.limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a permit. Leave with `leave`, also after an error."""
        if self.in_flight < self._limit and not self._waiting:
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the permit was handed over in the moment of the cancellation
            raise

    def leave(self) -> None:
        """Give the permit back, or straight on to the one who has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1


class LanedSender:
    """Takes one permit of the request's lane for each attempt.

    A push-back closes the gate of the whole lane; whoever holds a permit waits for it to open
    before sending. `on_hold(lane, delay_s)` is told each time a gate is closed or kept closed longer.
    A gate that stays closed beyond `wait_s_max` is not waited for: ThrottledError (cause `held`).
    """

    def __init__(
        self,
        inner: Sender,
        settings: LaneSettings,
        *,
        clock: Clock,
        luck: Luck,
        tally: Tally,
        on_hold: Callable[[str, float], None] | None = None,
    ) -> None:
        self._inner = inner
        self._settings = settings
        self._clock = clock
        self._luck = luck
        self._tally = tally
        self._on_hold = on_hold
        self._lanes: dict[tuple[str, str], Lane] = {}

    async def send(self, request: Request) -> Response:
        lane = self._lane_of(request)
        await lane.enter()
        try:
            if lane.gate.until_s:
                await self._wait(lane)
            try:
                response = await self._inner.send(request)
            except ThrottledError as error:
                self._close(lane, error)
                raise
        finally:
            lane.leave()
        lane.gate.open_again()
        return response

    async def _wait(self, lane: Lane) -> None:
        """Until the gate is open. Raises ThrottledError when that is too long."""
        while (wait_s := lane.gate.wait_s(self._clock.now_s())) > 0.0:
            if wait_s > self._settings.wait_s_max:
                raise ThrottledError(
                    f"{lane.name} asked us to wait, {wait_s:.0f} s from now",
                    retry_after_s=wait_s,
                    cause="held",
                )
            await self._clock.sleep(wait_s)

    def _close(self, lane: Lane, error: ThrottledError) -> None:
        held_before_s = lane.gate.held_s
        delay_s = lane.gate.hold(self._clock.now_s(), error.retry_after_s, self._luck())
        added_s = lane.gate.held_s - held_before_s
        self._tally.pushed_back += 1
        self._tally.push_back_s += added_s
        if added_s > 0.0 and self._on_hold is not None:
            self._on_hold(lane.name, delay_s)

    def _lane_of(self, request: Request) -> Lane:
        key = (_origin_of(request.url), request.lane_class)
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= LANES_MAX:
                raise PlanError(f"more than {LANES_MAX} upstream hosts in one run")
            name = key[0].rpartition("@")[2].rpartition("//")[2]
            lane = self._lanes[key] = Lane(f"{name} ({request.lane_class})", self._settings)
        return lane


def _origin_of(url: str) -> str:
    """Scheme, host and port of an address; a full parse costs ten times as much."""
    end = url.find("/", 8)
    origin = url if end < 0 else url[:end]
    # A template may put its query straight behind the host.
    return origin if "?" not in origin and "#" not in origin else origin.partition("?")[0].partition("#")[0]
