"""Virtual time: sleeping is instant, and everybody sleeps on the same clock."""

import asyncio
import heapq


class VirtualClock:
    """Time moves only when every task sleeps: `run` steps from one waking to the next."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0
        self.slept: list[float] = []

    def now_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return 1_800_000_000.0 + self._now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._now_s + max(0.0, delay_s), self._order, future))
        await future

    def advance(self, delay_s: float) -> None:
        """Move time without waking anyone."""
        self._now_s += delay_s

    async def run(self, task: "asyncio.Task[object]", *, rounds_max: int = 200_000) -> None:
        """Run until `task` is done, moving time whenever nothing else can run."""
        idle = 0
        for _ in range(rounds_max):
            if task.done():
                return
            await asyncio.sleep(0)
            idle += 1
            if idle < 20:
                continue
            idle = 0
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if self._sleepers:
                due_s, _, future = heapq.heappop(self._sleepers)
                self._now_s = max(self._now_s, due_s)
                future.set_result(None)
        raise AssertionError("the task did not end")


async def in_virtual_time(clock: VirtualClock, coroutine: object) -> object:
    """Await a coroutine under the clock; its result or exception."""
    task: asyncio.Task[object] = asyncio.ensure_future(coroutine)  # type: ignore[arg-type]
    await clock.run(task)
    return task.result()
