"""What a job's workers ask for next: a retry that is due, else new work; and the waiting for both."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from tilehaul.errors import BusyError, ConfigError, DataError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.retries import Item, Origin, Retries, alone
from tilehaul.jobs.stop import Stop
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.correlation import REPEATED, REQUEST_ID
from tilehaul.ports.source import BATCH_TILES, BatchSource
from tilehaul.ports.tile import FailedTile, NoTile, Tile

Answer = Tile | NoTile | FailedTile

# Of a source that gives batches: one is read while another is handed over, and a third waits to be read.
BATCH_WORKERS_MAX = 3


class Feed:
    """Hands out items to `workers` workers: retries first, then the work list.

    Run `read` beside the workers: it brings in the work list, a chunk ahead. A worker that finds nothing to
    do stands in a line, and one timer wakes the first of it when a retry is due.

    `error` is what the work list raised: nothing more is taken from it then, and the workers end when what
    was taken has ended. Once `stop` is raised nothing is handed out; call `end` then.
    """

    def __init__(
        self,
        origin: Origin,
        chunks: AsyncGenerator[Sequence[TileId], None],
        *,
        workers: int,
        tally: Tally,
        clock: Clock,
        stop: Stop,
    ) -> None:
        """Raises ConfigError when `workers` is below 1 or too many (see `Retries`)."""
        if workers < 1:
            raise ConfigError(f"a job needs 1 worker or more, not {workers}")
        self.error: Exception | None = None
        source = origin.source
        # What is tried again is asked for one by one.
        self._batches = source if isinstance(source, BatchSource) and origin.retrying is None else None
        if self._batches is not None:
            workers = min(workers, BATCH_WORKERS_MAX)
        self.workers = workers
        self._ahead = workers * (1 if self._batches is None else BATCH_TILES)
        self._source = source
        self._turn_away = origin.turn_away
        self._retries = Retries(origin.retrying, workers=workers)
        self._chunks = chunks
        self._tally = tally
        self._clock = clock
        self._stop = stop
        self._new: deque[TileId] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._read_all = False
        self._line: deque[asyncio.Future[Item | None]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._wakes_s = 0.0

    @property
    def idle(self) -> bool:
        """Whether the source owes nothing: every worker waits for new work."""
        return not self._retries and len(self._line) == self.workers

    async def read(self) -> None:
        """Bring in the work list until its end."""
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    await self._room.wait()
                    self._new.extend(chunk)
                    if len(self._new) > self._ahead:
                        self._room.clear()
                    self._pump()
        except Exception as error:  # noqa: BLE001 - the caller's own code; raised again at the end
            self.error = error
        self._read_all = True
        self._pump()

    async def work_on(self, settle: Callable[[Answer], Awaitable[None]]) -> None:
        """One worker: take an item, ask for it, hand over what became of it, until there is no more."""
        if self._batches is not None:
            await self._work_in_batches(self._batches, settle)
            return
        get = self._source.get
        while (item := await self._take()) is not None:
            answer: Answer
            REQUEST_ID.set(item.tile_id)
            REPEATED.set(item.answered_badly)
            try:
                answer = await get(item.tile_id)
            except BusyError as error:
                # Not sent. At the end of a job it stays pending.
                failed = None if self._stop.level else self._retries.failed(item, error, self._clock.now_s())
                if failed is None:
                    continue
                answer = failed
            except (TransferError, DataError) as error:
                self._tally.retried += item.attempts > 0
                failed = self._retries.failed(item, error, self._clock.now_s())
                if failed is None:
                    continue
                answer = failed
            else:
                self._tally.retried += item.attempts > 0
                self._retries.came(item)
            await settle(answer)

    async def _work_in_batches(
        self, source: BatchSource, settle: Callable[[Answer], Awaitable[None]]
    ) -> None:
        while (item := await self._take()) is not None:
            tile_ids = [item.tile_id]
            while len(tile_ids) < BATCH_TILES and self._new:
                tile_ids.append(self._new.popleft())
            if len(self._new) <= self._ahead:
                self._room.set()
            answers = await source.get_batch(tile_ids)
            self._new.extendleft(reversed(tile_ids[len(answers) :]))
            self._pump()
            for tile_id, answer in zip(tile_ids, answers, strict=False):
                if isinstance(answer, Tile | NoTile):
                    await settle(answer)
                else:
                    await settle(FailedTile(tile_id, alone(answer), max(1, answer.attempts)))

    def end(self) -> None:
        """Send home who waits in the line or for leave to send, after `stop` was raised.

        What they would have asked for, and what waits for a retry, stays pending.
        """
        self._turn_away()
        self._pump()

    async def aclose(self) -> None:
        """End the timer. No worker may run any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            await asyncio.wait({timer})

    async def _take(self) -> Item | None:
        if not self._line and (item := self._next()) is not None:
            return item
        turn: asyncio.Future[Item | None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._pump()
        return await turn

    def _next(self) -> Item | None:
        """What may be asked for now, or None."""
        if self._stop.level:
            return None
        if self._retries:
            item = self._retries.due(self._clock.now_s())
            if item is not None:
                return item
            if self._retries.hold_new_work:
                return None
        if not self._new:
            return None
        if len(self._new) <= self._ahead:
            self._room.set()
        return Item(self._new.popleft())

    def _pump(self) -> None:
        """Serve the line, and see to it that nobody in it is forgotten."""
        line = self._line
        while line:
            if line[0].done():
                line.popleft()  # cancelled while it waited
                continue
            item = self._next()
            if item is None and not self._over():
                self._arm()
                return
            line.popleft().set_result(item)

    def _over(self) -> bool:
        """Whether a worker that has nothing to do may go home.

        What others are asking for may still come back, but then those others see to it.
        """
        return self._stop.level > 0 or (self._read_all and not self._new and not self._retries)

    def _arm(self) -> None:
        """Have `_pump` run when the next retry is due."""
        now_s = self._clock.now_s()
        wait_s = self._retries.wait_s(now_s)
        if wait_s is None:
            return
        if self._timer is not None:
            if self._wakes_s <= now_s + wait_s:
                return
            self._timer.cancel()
        self._wakes_s = now_s + wait_s
        self._timer = asyncio.get_running_loop().create_task(self._wake(wait_s))

    async def _wake(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        self._timer = None
        self._pump()
