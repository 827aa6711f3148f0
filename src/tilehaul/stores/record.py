"""What a store remembers of the jobs that wrote it, and whether a job may go on with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilehaul.errors import DataError, PlanError
from tilehaul.ports.store import JobKey

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
class StoreRecord:
    """Who wrote a store. Jobs are named `source_identity:area_identity`."""

    source_identity: str
    source_name: str
    grid: str
    completed: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()


def job_name(job: JobKey) -> str:
    return f"{job.source_identity}:{job.area_identity}"


def decide_begin(
    record: StoreRecord | None, job: JobKey, *, has_tiles: bool, force_source: bool, location: str
) -> StoreRecord:
    """The record a store has once `job` has begun. `job_name(job) in completed` means: nothing to do.

    Args:
        record: The store's own; None when no job of ours wrote it.
        job: The job that wants the store.
        has_tiles: Whether it holds any tile.
        force_source: Go on although source or grid differ, or although others made the store. The
            store is the new source's from then on: unfinished jobs of the old one are forgotten.
        location: The store's name, for the message.

    Raises:
        PlanError: The store is another source's, another grid's, or not ours.
    """
    if record is None:
        if has_tiles and not force_source:
            raise PlanError(
                f"{location} holds tiles that tilehaul did not write; "
                "--force-source adds to it and keeps what is there"
            )
        return StoreRecord(job.source_identity, job.source_name, job.grid, (), (job_name(job),))
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
    name = job_name(job)
    if name in record.completed:
        return record
    unfinished = tuple(other for other in record.unfinished if same_source and other != name)
    return replace(
        record,
        source_identity=job.source_identity,
        source_name=job.source_name,
        grid=job.grid,
        unfinished=(*unfinished, name)[-JOBS_MAX:],
    )


def reopened(record: StoreRecord, job: JobKey) -> StoreRecord:
    """The record while `job` writes, also when it was complete before (an overwrite)."""
    name = job_name(job)
    return replace(
        record,
        completed=tuple(other for other in record.completed if other != name),
        unfinished=(*(other for other in record.unfinished if other != name), name)[-JOBS_MAX:],
    )


def completed(record: StoreRecord, job: JobKey) -> StoreRecord:
    """The record after `job` ended with nothing pending and nothing dead."""
    name = job_name(job)
    return replace(
        record,
        completed=(*(other for other in record.completed if other != name), name)[-JOBS_MAX:],
        unfinished=tuple(other for other in record.unfinished if other != name),
    )


def record_rows(record: StoreRecord) -> dict[str, str]:
    """The record as metadata rows. An empty value means: no such row."""
    return {
        SOURCE: record.source_identity,
        SOURCE_NAME: record.source_name,
        GRID: record.grid,
        JOBS: json.dumps(record.completed),
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
        _names(metadata.get(JOBS, "[]"), location),
        _names(metadata.get(JOBS_OPEN) or "[]", location),
    )


def _names(text: str, location: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{location}: its list of jobs is damaged; --force-source cannot help, "
            f"remove the metadata rows {PREFIX}* to go on",
            cause="corrupt_archive",
        )
    return tuple(names)


def state_of(record: StoreRecord | None, *, dead: int) -> str:
    """`complete`, `partial` or `foreign`, as in `StoreInfo.state`."""
    if record is None:
        return "foreign"
    return "partial" if record.unfinished or dead else "complete"
