"""A whole seed in virtual time: the real engine with a clock and a wire of our own."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Self

import pytest
from trial import SEED

import tilehaul
from doubles.clock import VirtualClock
from doubles.wire import answer
from tilehaul.ports.events import Event, SeedReport, Watch
from tilehaul.ports.wire import Request, Response
from tilehaul.stores.memory import MemoryStore
from tilehaul.wiring import places, seeding, senders

# Bytes are the same for all: these scenarios are about when and how often, not about what.
Step = Response | Exception
# A job waits for its disk in real time, and the clock's loop turns meanwhile.
ROUNDS_MAX = 10**9


class VirtualWire:
    """Answers, `ttfb_s` later, what `step` says of the moment of sending (seconds since the start)."""

    connections_opened = 0

    def __init__(self, clock: VirtualClock, step: Callable[[float], Step], ttfb_s: float) -> None:
        self._clock = clock
        self._step = step
        self._ttfb_s = ttfb_s
        self.begun_s = clock.now_s()
        self.sent_s: list[float] = []
        self.in_flight = 0
        # Answers by address as well, where a test wants that.
        self.of_tile: Callable[[str, float], Step] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    async def send(self, request: Request) -> Response:
        sent_s = self._clock.now_s() - self.begun_s
        self.sent_s.append(sent_s)
        step = self._step(sent_s) if self.of_tile is None else self.of_tile(request.url, sent_s)
        self.in_flight += 1
        try:
            await self._clock.sleep(self._ttfb_s)
        finally:
            self.in_flight -= 1
        if isinstance(step, Exception):
            raise step
        return step._replace(url=request.url, ttfb_s=self._ttfb_s, total_s=self._ttfb_s)


class VirtualTrial:
    """One seed of `area` into memory. After `seed`: the `wire`, the `clock`, the `events`."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        step: Callable[[float], Step] = lambda _: answer(),
        ttfb_s: float = 0.1,
    ) -> None:
        print(f"the seed of all luck is {SEED} (TILEHAUL_SEED)")  # shown when a test fails
        random.seed(SEED)
        self.clock = VirtualClock()
        self.wire = VirtualWire(self.clock, step, ttfb_s)
        self.store = MemoryStore()
        self.events: list[Event] = []
        for room in (places, seeding, senders):
            patch.setattr(room, "SystemClock", lambda: self.clock)
        patch.setattr(senders, "Wire", lambda *_, **__: self.wire)
        patch.setattr(seeding, "open_store", lambda *_, **__: self.store)
        patch.setattr(seeding, "check_places", lambda *_: None)

    def elapsed_s(self) -> float:
        return self.clock.now_s() - self.wire.begun_s

    async def seed(self, area: tilehaul.Area, *, watch: Watch = lambda _: None, **sending: Any) -> SeedReport:
        """Run to the end; the invariant of what is in memory then."""

        def tell(event: Event) -> None:
            self.events.append(event)
            watch(event)

        options = tilehaul.SeedOptions(
            sending=tilehaul.Sending(**sending), max_failures=tilehaul.FailureLimit(count=10_000)
        )
        job = tilehaul.seed(
            "http://127.0.0.1:1/{z}/{x}/{y}.png",
            "out.mbtiles",
            area,
            options=options,
            watch=tell,
        )
        task = asyncio.ensure_future(job)
        await self.clock.run(task, rounds_max=ROUNDS_MAX)
        report = task.result()
        info = await self.store.describe()
        # A complete store has forgotten which tiles there never were.
        absent = 0 if info.state == "complete" else report.absent
        assert (info.tiles, info.absent, info.dead) == (report.done, absent, report.dead)
        assert area.count() == report.planned == report.done + report.absent + report.dead + report.pending
        assert {tile_id async for tile_id in self.store.tile_ids()} <= set(area)
        return report
