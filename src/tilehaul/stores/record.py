"""What a store remembers of the jobs that wrote it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tilehaul.errors import DataError
from tilehaul.ports.source import SourceVersion
from tilehaul.ports.store import Deleted, Dropped, JobCounts, JobKey, Outcome
from tilehaul.ports.tile import NoTile, Tile

# Names of our rows in a store's metadata.
PREFIX = "tilehaul_"
SOURCE = PREFIX + "source"
SOURCE_NAME = PREFIX + "source_name"
GRID = PREFIX + "grid"
JOBS = PREFIX + "jobs"
JOBS_OPEN = PREFIX + "jobs_open"

# Of a job that brings one version over others, while it does.
MIXED = SourceVersion("mixed", "more than one version")

# Jobs remembered per store. One forgotten costs a second look at its tiles, nothing else.
JOBS_MAX = 1000


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """A job that ended whole. `counts` is None where an older tilehaul noted its name only; `version` is its
    source's, None where nobody knows it.
    """

    name: str
    counts: JobCounts | None = None
    version: SourceVersion | None = None


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job that has not ended whole. With `counts` nothing of it is pending: it waits for `counts.dead`
    dead letters only. None: it was interrupted, or it runs. `version` as of a complete one.
    """

    name: str
    counts: JobCounts | None = None
    version: SourceVersion | None = None


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """Who wrote a store. Jobs are named `source_identity:area_identity`."""

    source_identity: str
    source_name: str
    grid: str
    completed: tuple[CompletedJob, ...] = ()
    unfinished: tuple[OpenJob, ...] = ()


def job_name(job: JobKey) -> str:
    return name_of(job.source_identity, job.area_identity)


def name_of(source_identity: str, area_identity: str) -> str:
    return f"{source_identity}:{area_identity}"


def counts_of(record: StoreRecord, job: JobKey) -> JobCounts | None:
    """What became of the job's tiles, when it is complete; None when it is not, or its source has changed.

    Where no counts were kept, or they are not this plan's, all count as done.
    """
    name = job_name(job)
    for other in record.completed:
        if other.name == name and token_of(other.version) == token_of(job.version):
            counts = other.counts
            fits = counts is not None and counts.total == job.planned
            return counts if fits else JobCounts(job.planned, 0)
    return None


def token_of(version: SourceVersion | None) -> str:
    return "" if version is None else version.token


def has_completed(record: StoreRecord | None, area_identity: str) -> bool:
    """Whether a job over this area, from the source the store belongs to, is complete."""
    if record is None:
        return False
    name = name_of(record.source_identity, area_identity)
    return any(job.name == name for job in record.completed)


def reopened(record: StoreRecord, job: JobKey) -> StoreRecord:
    """The record while `job` writes, also when it was complete before (an overwrite)."""
    return record if job.replay else opened(record, job)


def committed(record: StoreRecord, job: JobKey, outcomes: Sequence[Outcome]) -> StoreRecord:
    """The record once these outcomes of a job that is open are durable; itself, when nothing changes."""
    if job.replay:
        return replayed(record, outcomes)
    if not any(isinstance(outcome, Deleted) for outcome in outcomes):
        return record
    name = job_name(job)
    pending = tuple(other for other in record.unfinished if other.counts is None or other.name == name)
    if not record.completed and pending == record.unfinished:
        return record
    return replace(record, completed=(), unfinished=pending)


def finished(
    record: StoreRecord, job: JobKey, counts: JobCounts | None, *, complete: bool, dead: bool
) -> StoreRecord:
    """The record after `job` ended; `counts` None: not known. `dead`: whether the store has dead letters."""
    if job.replay:
        return record if dead else _replay_finished(record)
    if complete:
        # Whatever else was begun here is moot: the store is what its source is.
        left = replace(record, unfinished=()) if job.mirrors else record
        return _completed(left, CompletedJob(job_name(job), counts, job.version))
    if counts is None or not counts.dead or counts.total != job.planned:
        return record
    return opened(record, job, counts)


def opened(record: StoreRecord, job: JobKey, counts: JobCounts | None = None) -> StoreRecord:
    """`job` is the last of the unfinished ones, and not among the complete."""
    name = job_name(job)
    version = job.version
    if counts is None and job.renews and version is not None:
        # Until its end nobody knows of a tile which version it is of.
        jobs: tuple[CompletedJob | OpenJob, ...] = (*record.completed, *record.unfinished)
        version = version if all(token_of(other.version) == version.token for other in jobs) else MIXED
    others = (other for other in record.unfinished if other.name != name)
    return replace(
        record,
        completed=tuple(other for other in record.completed if other.name != name),
        unfinished=(*others, OpenJob(name, counts, version))[-JOBS_MAX:],
    )


def _completed(record: StoreRecord, job: CompletedJob) -> StoreRecord:
    others = (other for other in record.completed if other.name != job.name)
    return replace(
        record,
        completed=(*others, job)[-JOBS_MAX:],
        unfinished=tuple(other for other in record.unfinished if other.name != job.name),
    )


def replayed(record: StoreRecord, outcomes: Sequence[Outcome]) -> StoreRecord:
    """The record after a replay brought these outcomes of tiles that were dead.

    With one unfinished job the letters are its own, so that its counts stay exact. With more nobody
    knows whose they are: a job's next run counts anew then, and sends nothing to do so.
    """
    match record.unfinished:
        case (OpenJob(counts=JobCounts() as counts),):
            dropped = sum(isinstance(outcome, Dropped) for outcome in outcomes)
            done = sum(isinstance(outcome, Tile) for outcome in outcomes)
            absent = sum(isinstance(outcome, NoTile) for outcome in outcomes)
            dead = counts.dead - done - absent - dropped
            # Below 0: letters of a job that was forgotten, because another source was forced, are among them.
            if dead >= 0:
                now = JobCounts(counts.done + done, counts.absent + absent, counts.dropped + dropped, dead)
                return replace(record, unfinished=(replace(record.unfinished[0], counts=now),))
    return record


def _replay_finished(record: StoreRecord) -> StoreRecord:
    """Completes the only unfinished job when the replay settled the last of its dead letters."""
    match record.unfinished:
        case (OpenJob(name, JobCounts(dead=0) as counts, version),):
            return _completed(record, CompletedJob(name, counts, version))
    return record


def record_rows(record: StoreRecord) -> dict[str, str]:
    """The record as metadata rows. An empty value means: no such row."""
    return {
        SOURCE: record.source_identity,
        SOURCE_NAME: record.source_name,
        GRID: record.grid,
        JOBS: json.dumps([_versioned(_entry(job), job.version) for job in record.completed]),
        JOBS_OPEN: json.dumps([_versioned(_open_entry(job), job.version) for job in record.unfinished])
        if record.unfinished
        else "",
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
        tuple(_open_job(entry, location) for entry in _list(metadata.get(JOBS_OPEN) or "[]", location)),
    )


def _versioned(entry: object, version: SourceVersion | None) -> object:
    """The entry itself where there is no version, else `{"job": entry, "version": [token, shown]}`."""
    return entry if version is None else {"job": entry, "version": [version.token, version.shown]}


def _entry(job: CompletedJob) -> str | list[str | int]:
    """`[name, done, absent]`, and `dropped` if any is; the name alone where the counts are not known."""
    counts = job.counts
    if counts is None:
        return job.name
    entry: list[str | int] = [job.name, counts.done, counts.absent]
    return [*entry, counts.dropped] if counts.dropped else entry


def _open_entry(job: OpenJob) -> str | list[str | int]:
    """`[name, done, absent, dropped, dead]`; the name alone where something is pending."""
    counts = job.counts
    if counts is None:
        return job.name
    return [job.name, counts.done, counts.absent, counts.dropped, counts.dead]


def _completed_job(entry: object, location: str) -> CompletedJob:
    match entry:
        case {"job": inner, "version": [str(token), str(shown)]} if not isinstance(inner, dict):
            return replace(_completed_job(inner, location), version=SourceVersion(token, shown))
        case str(name):
            return CompletedJob(name)
        case [str(name), done, absent, *dropped] if len(dropped) <= 1:
            return CompletedJob(name, JobCounts(*_numbers([done, absent, *dropped], location)))
    raise _damaged(location)


def _open_job(entry: object, location: str) -> OpenJob:
    match entry:
        case {"job": inner, "version": [str(token), str(shown)]} if not isinstance(inner, dict):
            return replace(_open_job(inner, location), version=SourceVersion(token, shown))
        case str(name):
            return OpenJob(name)
        case [str(name), done, absent, dropped, dead]:
            return OpenJob(name, JobCounts(*_numbers([done, absent, dropped, dead], location)))
    raise _damaged(location)


def _numbers(values: Sequence[object], location: str) -> list[int]:
    """Counts as JSON has them: whole, not negative, and not `true`, which is an integer to Python."""
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) != len(values) or min(numbers) < 0:
        raise _damaged(location)
    return numbers


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
    pending = any(job.counts is None for job in record.unfinished)
    return "partial" if pending or dead else "complete"
