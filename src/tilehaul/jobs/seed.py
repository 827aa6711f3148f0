"""Seed: the tiles of an area, from a source into a store, exact after any crash.

    area (lazy) -> work list (minus the journal) -> workers -> outbox -> one writer -> store and journal

Every planned tile is exactly one of done, absent, dead or pending, at every moment (or dropped, when a
person has said so of a dead one).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from tilehaul.codec.safe_url import redact_text
from tilehaul.errors import BusyError, DataError, DeniedError, FuseError, ThrottledError, TransferError
from tilehaul.grid.tile_id import TileId
from tilehaul.jobs.outbox import Outbox
from tilehaul.jobs.score import Score
from tilehaul.jobs.stop import CANCEL, DRAIN, Stop
from tilehaul.jobs.worklist import WorkList
from tilehaul.policy.causes import cause_of
from tilehaul.policy.fuse import FAILURES_DEFAULT, FailureLimit, Fuse
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.events import JobStarted, SeedReport, Watch
from tilehaul.ports.source import TileSource
from tilehaul.ports.store import DeadLetter, JobCounts, JobKey, JobStore, Outcome

# After a first Ctrl-C what is under way has this long to end.
DRAIN_S = 30.0
# Progress is told at most this often, and at least once in TICK_S.
PROGRESS_S = 0.2
TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """What to do, apart from where.

    Args:
        tiles: The planned tiles, walked once.
        planned: How many they are.
        key: What makes this job this job.
        store_name: The store's location, for events.
        workers: Tiles asked for at once, >= 1. More than the lane's limit, so that tiles that wait
            between attempts leave no permit unused.
        overwrite: Fetch tiles again that an earlier run has settled.
        max_failures: When the fuse blows.
        max_wait_s: A job without one success for this long ends.
        force_source: Write into a store that another source made.
        job: Its name in events.
    """

    tiles: Iterable[TileId]
    planned: int
    key: JobKey
    store_name: str = ""
    workers: int = 64
    overwrite: bool = False
    max_failures: FailureLimit = FAILURES_DEFAULT
    max_wait_s: float = 1800.0
    force_source: bool = False
    job: str = "seed"


def _unwatched(event: object) -> None:
    pass


async def seed(
    source: TileSource,
    store: JobStore,
    plan: SeedPlan,
    *,
    tally: Tally,
    clock: Clock,
    watch: Watch = _unwatched,
    stop: Stop | None = None,
) -> SeedReport:
    """Move every planned tile that is not settled from `source` to `store`.

    Once the store is taken, the last event that `watch` gets is the report, whatever happens.
    `stop` may be raised by the job itself.

    Returns:
        A report whose state is `complete`, `dead_letters` or `interrupted`.

    Raises:
        FuseError: Too much failed or the origin is away. What was done is kept; run again to go on.
        StorageError: The store refused. What was acknowledged is kept.
        PlanError: The store belongs to another source or grid; nothing was sent.
    """
    already = await store.begin(plan.key, force_source=plan.force_source)
    watch(JobStarted(plan.job, plan.planned, plan.key.source_name, plan.store_name))
    run = _Run(source, store, plan, tally, clock, watch, stop or Stop())
    if already is not None and not plan.overwrite:
        # The store vouches for the whole job: not one tile needs looking up.
        run.work.skipped["done"] = already.done
        run.work.skipped["absent"] = already.absent
        run.work.skipped["dropped"] = already.dropped
        return run.report("complete")
    try:
        await run.move()
        complete = run.score.pending == 0 and run.score.dead == 0
        await store.finish(complete=complete, counts=JobCounts(**run.score.settled()))
    except BaseException as error:
        run.report("stopped", message=str(error) or type(error).__name__)
        raise
    if run.blown is not None:
        run.report("stopped", message=run.blown)
        raise FuseError(run.blown, counts=run.score.counts())
    if run.score.pending > 0:
        return run.report("interrupted")
    return run.report("complete" if complete else "dead_letters")


class _Run:
    """One run of a seed: what its tasks share."""

    def __init__(
        self,
        source: TileSource,
        store: JobStore,
        plan: SeedPlan,
        tally: Tally,
        clock: Clock,
        watch: Watch,
        stop: Stop,
    ) -> None:
        now_s = clock.now_s()
        self.work = WorkList(iter(plan.tiles), store, overwrite=plan.overwrite)
        self.score = Score(plan.planned, self.work.skipped, tally, now_s)
        self.blown: str | None = None
        self._source = source
        self._store = store
        self._plan = plan
        self._clock = clock
        self._watch = watch
        self._stop = stop
        self._fuse = Fuse(plan.max_failures)
        self._outbox = Outbox()
        self._succeeded_s = now_s
        self._told_s = now_s

    def report(self, state: str, *, message: str = "") -> SeedReport:
        """Build the report and tell it."""
        plan = self._plan
        report = self.score.report(
            state,
            self._clock.now_s(),
            source=plan.key.source_name,
            store=plan.store_name,
            message=message,
        )
        self._watch(report)
        return report

    async def move(self) -> None:
        """Run the workers and the writer until all is moved or the job must end.

        What the workers have handed over by then is committed, also when this task is cancelled from outside;
        a tile that was fetched but not handed over stays pending.
        """
        writing = asyncio.create_task(self._write())
        fetching = asyncio.create_task(self._fetch_all())
        watching = asyncio.create_task(self._watch_over(fetching))
        try:
            await asyncio.wait({fetching, writing, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            fetching.cancel()
            watching.cancel()
            await asyncio.wait({fetching, watching})
            await self.work.close()
            self._outbox.close()
            await writing
        for task in (fetching, watching):
            # A watcher that fails ends the job as a source that fails does: nobody would see it run on.
            if not task.cancelled() and (error := task.exception()) is not None:
                raise _first(error)

    async def _fetch_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._plan.workers, self._plan.planned)):
                group.create_task(self._work_on())

    async def _work_on(self) -> None:
        """One worker: pull a tile, ask for it, hand the outcome over."""
        source, outbox, fuse = self._source, self._outbox, self._fuse
        while self._stop.level == 0:
            tile_id = await self.work.take()
            if tile_id is None:
                return
            outcome: Outcome
            try:
                outcome = await source.get(tile_id)
            except (TransferError, DataError, BusyError) as error:
                if isinstance(error, ThrottledError) and self._is_held_up(error):
                    # The lane is at fault, not the tile: it stays pending, and the job ends for now.
                    self._blow(f"{error}: more than --max-wait {self._plan.max_wait_s:.0f} s")
                    return
                outcome = _letter(tile_id, error, self._clock.wall_s())
                reason = fuse.failed(denied=isinstance(error, DeniedError))
                if reason is not None:
                    self._blow(reason)
            else:
                fuse.passed()
                self._succeeded_s = self._clock.now_s()
            await outbox.put(outcome)

    def _is_held_up(self, error: ThrottledError) -> bool:
        """Whether the origin is away for all, not just pushing this one tile back again and again."""
        if (error.retry_after_s or 0.0) > self._plan.max_wait_s:
            return True
        return self._clock.now_s() - self._succeeded_s >= self._plan.max_wait_s

    def _blow(self, reason: str) -> None:
        self.blown = self.blown or reason
        self._stop.drain()

    async def _watch_over(self, fetching: "asyncio.Task[None]") -> None:
        """Tell progress; end the fetching when asked to, or when nothing has come for too long."""
        asked = asyncio.create_task(self._stop.reached(DRAIN))
        tick_s = min(TICK_S, self._plan.max_wait_s / 4)
        silent_s = 0.0
        looked_s = self._clock.now_s()
        try:
            while not asked.done():
                await asyncio.wait({asked}, timeout=tick_s)
                self._tell()
                # Counted by ticks, so that a program that was suspended (Ctrl-Z) has not waited.
                now_s = self._clock.now_s()
                silent_s = (
                    0.0 if self._succeeded_s >= looked_s else silent_s + min(now_s - looked_s, 2 * tick_s)
                )
                looked_s = now_s
                if silent_s > self._plan.max_wait_s:
                    self._blow(f"no tile came for {silent_s:.0f} s (--max-wait): the origin is away")
        finally:
            asked.cancel()
        # A blown fuse does not wait for what is under way: it would only fail as well.
        if self.blown is None:
            try:
                async with asyncio.timeout(DRAIN_S):
                    await self._stop.reached(CANCEL)
            except TimeoutError:
                pass
        fetching.cancel()

    async def _write(self) -> None:
        """The one task that uses the store for writing; outcomes count once they are durable."""
        while batch := await self._outbox.take():
            await self._store.commit(batch)
            self.score.add(batch)
            if self._clock.now_s() - self._told_s >= PROGRESS_S:
                self._tell()

    def _tell(self) -> None:
        self._told_s = self._clock.now_s()
        self._watch(self.score.progress(self._told_s))


def _letter(tile_id: TileId, error: TransferError | DataError | BusyError, at_s: float) -> DeadLetter:
    if isinstance(error, BusyError):
        return DeadLetter(tile_id, cause=cause_of(error), attempts=1, message=str(error), at_s=at_s)
    head = b""
    if isinstance(error, DataError):
        # An error page may repeat the key that was sent with the request.
        head = redact_text(error.head.decode("utf-8", "replace")).encode()[: DataError.HEAD_BYTES_MAX]
    return DeadLetter(
        tile_id,
        cause=cause_of(error),
        attempts=max(1, error.attempts),
        url=error.url,
        message=str(error),
        body_head=head,
        at_s=at_s,
    )


def _first(error: BaseException) -> BaseException:
    """The first plain error inside nested groups: callers are promised typed errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
