"""What a store remembers of the jobs that wrote it, and whether a job may go on with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilehaul.errors import DataError, PlanError
from tilehaul.ports.store import JobCounts, JobKey

# Names of our rows in a store's metadata.
PREFIX = "tilehaul_"
SOURCE = PREFIX + "source"
SOURCE_NAME = PREFIX + "source_name"
GRID = PREFIX + "grid"
JOBS = PREFIX + "jobs"
JOBS_OPEN = PREFIX + "jobs_open"

# Jobs remembered per store. One forgotten costs a second look at its tiles, nothing else.
JOBS_MAX = 1000


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """A job that ended whole. `counts` is None where an older tilehaul noted its name only."""

    name: str
    counts: JobCounts | None = None


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """Who wrote a store. Jobs are named `source_identity:area_identity`."""

    source_identity: str
    source_name: str
    grid: str
    completed: tuple[CompletedJob, ...] = ()
    unfinished: tuple[str, ...] = ()


def job_name(job: JobKey) -> str:
    return f"{job.source_identity}:{job.area_identity}"


def decide_begin(
    record: StoreRecord | None, job: JobKey, *, has_tiles: bool, force_source: bool, location: str
) -> StoreRecord:
    """The record a store has once `job` has begun. Counts of it (`counts_of`) mean: nothing to do.

    Args:
        record: The store's own; None when no job of ours wrote it.
        job: The job that wants the store.
        has_tiles: Whether it holds any tile.
        force_source: Go on although source or grid differ, or although others made the store. The
            store is the new source's from then on: unfinished jobs of the old one are forgotten.
        location: The store's name, for the message.

    Raises:
        PlanError: The store holds tiles of another source, another grid, or not ours.
    """
    fresh = StoreRecord(job.source_identity, job.source_name, job.grid, (), (job_name(job),))
    if record is None:
        if has_tiles and not force_source:
            raise PlanError(
                f"{location} holds tiles that tilehaul did not write; "
                "--force-source adds to it and keeps what is there"
            )
        return fresh
    if begins_anew(record, job, has_tiles=has_tiles):
        return fresh
    same_source = record.source_identity == job.source_identity
    if not force_source and not same_source:
        raise PlanError(
            f"{location} holds tiles of {record.source_name or record.source_identity}, not of "
            f"{job.source_name or job.source_identity}; choose another store, or --force-source to mix them"
        )
    if not force_source and record.grid != job.grid:
        raise PlanError(
            f"{location} is cut in the grid {record.grid}, not {job.grid}; "
            "choose another store, or --force-source to mix them"
        )
    if counts_of(record, job) is not None:
        return record
    name = job_name(job)
    unfinished = tuple(other for other in record.unfinished if same_source and other != name)
    return replace(
        record,
        source_identity=job.source_identity,
        source_name=job.source_name,
        grid=job.grid,
        unfinished=(*unfinished, name)[-JOBS_MAX:],
    )


def begins_anew(record: StoreRecord | None, job: JobKey, *, has_tiles: bool) -> bool:
    """Whether `job` replaces all a store remembers: another source's or grid's, and not one tile kept.

    So a mistyped address leaves nothing that the right one would have to be forced over.
    """
    if record is None or has_tiles:
        return False
    return (record.source_identity, record.grid) != (job.source_identity, job.grid)


def counts_of(record: StoreRecord, job: JobKey) -> JobCounts | None:
    """What became of the job's tiles, when it is complete; None when it is not.

    Where no counts were kept, or they are not this plan's, all count as done.
    """
    name = job_name(job)
    for other in record.completed:
        if other.name == name:
            counts = other.counts
            fits = counts is not None and counts.done + counts.absent == job.planned
            return counts if fits else JobCounts(job.planned, 0)
    return None


def _without(jobs: tuple[CompletedJob, ...], name: str) -> tuple[CompletedJob, ...]:
    return tuple(job for job in jobs if job.name != name)


def reopened(record: StoreRecord, job: JobKey) -> StoreRecord:
    """The record while `job` writes, also when it was complete before (an overwrite)."""
    name = job_name(job)
    return replace(
        record,
        completed=_without(record.completed, name),
        unfinished=(*(other for other in record.unfinished if other != name), name)[-JOBS_MAX:],
    )


def completed(record: StoreRecord, job: JobKey, counts: JobCounts | None) -> StoreRecord:
    """The record after `job` ended with nothing pending and nothing dead; `counts` None: not known."""
    name = job_name(job)
    return replace(
        record,
        completed=(*_without(record.completed, name), CompletedJob(name, counts))[-JOBS_MAX:],
        unfinished=tuple(other for other in record.unfinished if other != name),
    )


def record_rows(record: StoreRecord) -> dict[str, str]:
    """The record as metadata rows. An empty value means: no such row."""
    return {
        SOURCE: record.source_identity,
        SOURCE_NAME: record.source_name,
        GRID: record.grid,
        JOBS: json.dumps([_entry(job) for job in record.completed]),
        JOBS_OPEN: json.dumps(record.unfinished) if record.unfinished else "",
    }


def parse_record(metadata: Mapping[str, str], location: str) -> StoreRecord | None:
    """The record in a store's metadata; None when there is none. DataError when it is damaged."""
    if SOURCE not in metadata:
        return None
    return StoreRecord(
        metadata[SOURCE],
        metadata.get(SOURCE_NAME, ""),
        metadata.get(GRID, ""),
        tuple(_completed_job(entry, location) for entry in _list(metadata.get(JOBS, "[]"), location)),
        tuple(_name(entry, location) for entry in _list(metadata.get(JOBS_OPEN) or "[]", location)),
    )


def _entry(job: CompletedJob) -> str | list[str | int]:
    """`[name, done, absent]`; the name alone where the counts are not known."""
    return job.name if job.counts is None else [job.name, job.counts.done, job.counts.absent]


def _completed_job(entry: object, location: str) -> CompletedJob:
    match entry:
        case str(name):
            return CompletedJob(name)
        # JSON's true is an integer to Python.
        case [str(name), int(done), int(absent)] if bool not in (type(done), type(absent)):
            if done >= 0 and absent >= 0:
                return CompletedJob(name, JobCounts(done, absent))
    raise _damaged(location)


def _name(entry: object, location: str) -> str:
    if not isinstance(entry, str):
        raise _damaged(location)
    return entry


def _list(text: str, location: str) -> list[object]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(location) from error
    if not isinstance(entries, list):
        raise _damaged(location)
    return entries


def _damaged(location: str) -> DataError:
    return DataError(
        f"{location}: its list of jobs is damaged; --force-source cannot help, "
        f"remove the metadata rows {PREFIX}* to go on",
        cause="corrupt_archive",
    )


def state_of(record: StoreRecord | None, *, dead: int) -> str:
    """`complete`, `partial` or `foreign`, as in `StoreInfo.state`."""
    if record is None:
        return "foreign"
    return "partial" if record.unfinished or dead else "complete"
