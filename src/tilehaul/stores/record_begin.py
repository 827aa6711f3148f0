"""Whether a job may go on with what is in a store."""

from dataclasses import replace

from tilehaul.errors import PlanError
from tilehaul.ports.store import JobKey
from tilehaul.stores.record import StoreRecord, counts_of, name_of, opened, token_of

# Of what tells two versions apart, so many characters are shown.
SHOWN_CHARS_MAX = 120


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
        PlanError: The store holds tiles of another source, another grid, or not ours; or the job was begun
            when its source was another version than it is now.
    """
    if job.replay:
        return _decide_replay(record, job, force_source=force_source, location=location)
    fresh = opened(StoreRecord(job.source_identity, job.source_name, job.grid), job)
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
    if not force_source:
        _check_same(record, job, location, "choose another store, or --force-source to mix them")
    if counts_of(record, job) is not None:
        return record
    if same_source:
        _check_version(record, job, location)
    return opened(
        replace(
            record,
            source_identity=job.source_identity,
            source_name=job.source_name,
            grid=job.grid,
            unfinished=record.unfinished if same_source else (),
        ),
        job,
    )


def _decide_replay(
    record: StoreRecord | None, job: JobKey, *, force_source: bool, location: str
) -> StoreRecord:
    """The store's own record as it is: tiles that come from a mirror do not make it the mirror's."""
    if record is None:
        raise PlanError(f"{location} was not made by tilehaul: it has no dead letters")
    if not force_source:
        hint = "name the source it was made from, or --force-source to take its dead tiles from elsewhere"
        _check_same(record, job, location, hint)
    return record


def _check_same(record: StoreRecord, job: JobKey, location: str, hint: str) -> None:
    if record.source_identity != job.source_identity:
        there, here = record.source_name or record.source_identity, job.source_name or job.source_identity
        # Two files may have one name, in two folders.
        told = f"{there}, not of {here}" if there != here else f"another {there} than the one named now"
        raise PlanError(f"{location} holds tiles of {told}; {hint}")
    if record.grid != job.grid:
        raise PlanError(f"{location} is cut in the grid {record.grid}, not {job.grid}; {hint}")


def _check_version(record: StoreRecord, job: JobKey, location: str) -> None:
    """Of any area: they meet. Also when forced: mixing two sources says not that one of them has changed."""
    if job.version is None or job.renews:
        return
    for other in record.unfinished:
        is_its = other.name.startswith(name_of(job.source_identity, ""))
        if is_its and token_of(other.version) not in ("", job.version.token):
            before = "" if other.version is None else _plain(other.version.shown)
            raise PlanError(
                f"{location} has an unfinished job of {job.source_name}, which has changed since: then"
                f" {before}, now {_plain(job.version.shown)}: `tilehaul copy --update` moves what differs,"
                " --overwrite moves all again"
            )


def _plain(shown: str) -> str:
    """A line of at most SHOWN_CHARS_MAX: a server, or an archive of others, may say anything."""
    return "".join(char if char.isprintable() else " " for char in shown[:SHOWN_CHARS_MAX])


def begins_anew(record: StoreRecord | None, job: JobKey, *, has_tiles: bool) -> bool:
    """Whether `job` replaces all a store remembers: another source's or grid's, and not one tile kept.

    So a mistyped address leaves nothing that the right one would have to be forced over.
    """
    if record is None or has_tiles or job.replay:
        return False
    return (record.source_identity, record.grid) != (job.source_identity, job.grid)
