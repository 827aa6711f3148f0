"""Seed: the tiles of an area, from a source into a store, exact after any crash.

    area (lazy) -> work list (minus the journal) -> feed -> workers -> outbox -> one writer -> store, journal
                                                     ^        |
                                                     +- heap <+  failed attempts that get another

Every planned tile is exactly one of done, absent, dead or pending, at every moment (or dropped, when a
person has said so of a dead one).
"""

import asyncio
from dataclasses import replace
from math import inf

from tilehaul.errors import DeniedError, FuseError, StorageError, first_error
from tilehaul.jobs.ending import changed_words, is_replaced, late_message, why_end
from tilehaul.jobs.feed import Answer, Feed
from tilehaul.jobs.letter import dead_letter, vanished
from tilehaul.jobs.outbox import Outbox
from tilehaul.jobs.retries import Origin
from tilehaul.jobs.score import Score
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.jobs.silence import Silence
from tilehaul.jobs.stop import CANCEL, DRAIN, Stop
from tilehaul.jobs.telling import death_of, signed
from tilehaul.jobs.worklist import WorkList
from tilehaul.policy.causes import cause_of
from tilehaul.policy.fuse import Fuse
from tilehaul.policy.health import judge_health
from tilehaul.policy.tally import Tally
from tilehaul.ports.clock import Clock
from tilehaul.ports.events import JobStarted, SeedReport, Watch
from tilehaul.ports.store import JobCounts, JobStore
from tilehaul.ports.tile import FailedTile, NoTile

# After a first Ctrl-C what is under way has this long to end.
DRAIN_S = 30.0
# ... and after the deadline this long: whoever set one counts on the job's end.
DEADLINE_DRAIN_S = 5.0
# Progress is told at most this often, and at least once in TICK_S.
PROGRESS_S = 0.2
TICK_S = 1.0


def _unwatched(event: object) -> None:
    pass


async def seed(
    origin: Origin,
    store: JobStore,
    plan: SeedPlan,
    *,
    tally: Tally,
    clock: Clock,
    watch: Watch = _unwatched,
    stop: Stop | None = None,
) -> SeedReport:
    """Move every planned tile that is not settled from the origin to `store`.

    Once the store is taken, the last event that `watch` gets is the report, whatever happens.
    `watch` returns at once; what it raises ends the job. `stop` may be raised by the job itself.

    Returns:
        A report whose state is `complete`, `dead_letters` or `interrupted`.

    Raises:
        FuseError: Too much failed or the origin is away. What was done is kept; run again to go on.
        StorageError: The store refused, or other tiles came than were planned. What was acknowledged is kept.
        PlanError: The store belongs to another source or grid; nothing was sent. Or something in the work
            is no tile: what came before it is kept.
        Exception: Whatever `plan.tiles` raises; what came before it is moved first.
    """
    # What was compared and differs, or is to be overwritten, does not stay for being somebody else's.
    key = replace(plan.key, replaces=plan.overwrite or plan.unchanged is not None)
    already = await store.begin(key, force_source=plan.force_source)
    watch = signed(watch, plan.job_id)
    watch(JobStarted(plan.job, plan.planned, plan.key.source_name, plan.store_name))
    run = _Run(origin, store, plan, tally, clock, watch, stop or Stop())
    looks = plan.overwrite or plan.unchanged is not None or plan.stale is not None
    if already is not None and not looks and not (plan.listed and already.absent):
        # The store vouches for the whole job: not one tile needs looking up.
        run.work.skipped |= {"done": already.done, "absent": already.absent, "dropped": already.dropped}
        return run.report("complete")
    try:
        await run.move()
        objection = run.objection()
        complete = run.score.pending == 0 and run.score.dead == 0 and not objection
        counts = JobCounts(**run.score.settled()) if run.score.pending >= 0 else None
        await store.finish(complete=complete, counts=counts)
    except BaseException as error:
        run.report("stopped", message=str(error) or type(error).__name__)
        raise
    if run.blown is not None:
        run.report("stopped", message=run.blown)
        raise FuseError(run.blown, counts=run.score.counts())
    if objection:
        run.report("stopped", message=objection)
        raise StorageError(objection)
    if run.score.pending > 0:
        return run.report("interrupted", message=late_message(plan, run.score) if run.late else "")
    return run.report("complete" if complete else "dead_letters")


class _Run:
    """One run of a seed: what its tasks share."""

    def __init__(
        self,
        origin: Origin,
        store: JobStore,
        plan: SeedPlan,
        tally: Tally,
        clock: Clock,
        watch: Watch,
        stop: Stop,
    ) -> None:
        now_s = clock.now_s()
        self.work = WorkList(
            plan.tiles,
            store,
            overwrite=plan.overwrite,
            unchanged=plan.unchanged,
            stale=plan.stale,
            listed=plan.listed,
        )
        self.score = Score(plan.planned, self.work.skipped, tally, now_s)
        self.blown: str | None = None
        self.late = False
        self._feed = Feed(
            origin,
            self.work.chunks(),
            workers=max(1, min(plan.workers, plan.planned)),
            tally=tally,
            clock=clock,
            stop=stop,
        )
        self._store = store
        self._plan = plan
        self._clock = clock
        self._watch = watch
        self._stop = stop
        self._lanes = origin.lanes
        self._fuse = Fuse(plan.max_failures)
        self._outbox = Outbox()
        self._ends_s = inf if plan.deadline_s is None else now_s + plan.deadline_s
        self._tick_s = min(TICK_S, plan.max_wait_s / 4)
        self._silence = Silence(now_s, between_s=self._tick_s)
        self._succeeded_s = now_s
        self._told_s = now_s

    def objection(self) -> str:
        """Why a job that came to the end of its work is not complete, whatever it counts; "": it is."""
        if self._stop.level > 0:
            return ""
        # A plan that knows more of the change says better what to do about it.
        objection = self._plan.objection()
        if not objection and self.score.pending != 0:
            return f"{self._plan.key.source_name} {changed_words(self.score)}"
        return objection

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
        lanes = self._lanes()
        report = replace(report, job_id=plan.job_id, lanes=lanes, health=judge_health(lanes))
        self._watch(report)
        return report

    async def move(self) -> None:
        """Run the workers and the writer until all is moved or the job must end.

        What the workers have handed over by then is committed, also when this task is cancelled from outside;
        a tile that was fetched but not handed over stays pending.
        """
        # Not of the group: it goes on while the others are cancelled, until what they handed over is kept.
        writing = asyncio.create_task(self._write())
        try:
            async with asyncio.TaskGroup() as group:
                workers = [
                    group.create_task(self._feed.work_on(self._settle)) for _ in range(self._feed.workers)
                ]
                # One that fails ends the job, as a source that fails does: nobody would see it run on.
                others = [
                    group.create_task(self._feed.read()),
                    group.create_task(self._watch_over(workers)),
                    group.create_task(_pass_on(writing)),
                ]
                await asyncio.wait(workers)
                for task in others:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        finally:
            await self._feed.aclose()
            self._outbox.close()
            await writing
        if self._feed.error is not None:
            if not is_replaced(self._feed.error):
                raise self._feed.error
            self._blow(str(self._feed.error))

    async def _settle(self, answer: Answer) -> None:
        """Hand one tile's end over to the writer, and judge what it says of the job."""
        if self._plan.listed and isinstance(answer, NoTile) and answer.place == "store":
            answer = vanished(answer, self._plan.key.source_name)
        if not isinstance(answer, FailedTile):
            self._fuse.passed()
            self._succeeded_s = self._clock.now_s()
            self._silence.heard(self._succeeded_s)
            await self._outbox.put(answer)
            return
        error = answer.error
        fruitless_s = self._clock.now_s() - self._succeeded_s
        if end := why_end(error, max_wait_s=self._plan.max_wait_s, fruitless_s=fruitless_s):
            self._blow(end)
            return
        reason = self._fuse.failed(denied=isinstance(error, DeniedError), cause=cause_of(error))
        if reason is not None:
            self._blow(reason)
        await self._outbox.put(dead_letter(answer, at_s=self._clock.wall_s()))

    def _blow(self, reason: str) -> None:
        self.blown = self.blown or reason
        self._stop.drain()

    async def _watch_over(self, workers: "list[asyncio.Task[None]]") -> None:
        """Tell progress; end the workers when asked to, at the deadline, or when nothing comes any more."""
        asked = asyncio.create_task(self._stop.reached(DRAIN))
        now_s = self._clock.now_s()
        try:
            while not asked.done():
                wait_s = min(self._tick_s, max(0.0, self._ends_s - now_s))
                await asyncio.wait({asked}, timeout=wait_s)
                self._tell()
                now_s = self._clock.now_s()
                silent_s = self._silence.look(now_s)
                if silent_s > self._plan.max_wait_s:
                    self._blow(f"no tile came for {silent_s:.0f} s (--max-wait): the origin is away")
                elif now_s >= self._ends_s and self._stop.level == 0:
                    self.late = True
                    self._stop.drain()
        finally:
            asked.cancel()
        self._feed.end()
        # A blown fuse does not wait for what is under way: it would only fail as well.
        if self.blown is None:
            try:
                async with asyncio.timeout(DEADLINE_DRAIN_S if self.late else DRAIN_S):
                    await self._stop.reached(CANCEL)
            except TimeoutError:
                pass
        for worker in workers:
            worker.cancel()

    async def _write(self) -> None:
        """The one task that uses the store for writing; outcomes count once they are durable."""
        while batch := await self._outbox.take():
            await self._store.commit(batch)
            for letter in self.score.add(batch):
                self._watch(death_of(letter))
            if self._clock.now_s() - self._told_s >= PROGRESS_S:
                self._tell()

    def _tell(self) -> None:
        self._told_s = self._clock.now_s()
        self._watch(self.score.progress(self._told_s))


async def _pass_on(writing: "asyncio.Task[None]") -> None:
    """Fail as the writer fails; it never ends while somebody may hand something over."""
    await asyncio.wait({writing})
    writing.result()
