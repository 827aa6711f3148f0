"""Tiles that died: listed, tried again, or dropped."""

import difflib
from collections.abc import AsyncGenerator, Callable, Collection

from tilehaul.config.locations import parse_location
from tilehaul.errors import PlanError
from tilehaul.jobs.retry import DeadTiles, drop, replay_key
from tilehaul.jobs.seed_plan import SeedPlan
from tilehaul.jobs.stop import Stop
from tilehaul.policy.causes import CAUSE_CLASSES, CAUSES, class_of
from tilehaul.policy.fuse import FailureLimit
from tilehaul.ports.events import SeedReport, Watch
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.store import DeadLetter, JobStore, TileArchive
from tilehaul.stores.sqlite_file import Durability
from tilehaul.wiring.places import open_archive, open_store
from tilehaul.wiring.seeding import SeedOptions, plan_with, run_between

# Tiles that died once may well die again: only a long row of failures ends a replay early.
RETRY_OPTIONS_DEFAULT = SeedOptions(max_failures=FailureLimit())


async def retry(
    archive: str,
    source: str,
    *,
    causes: Collection[str] = (),
    options: SeedOptions | None = None,
    watch: Watch | None = None,
    stop: Stop | None = None,
) -> SeedReport:
    """Ask again for the tiles of an archive that died, and for nothing else.

    A tile that comes is kept, one that the source says does not exist is absent, one that fails is dead
    again with its new cause. After an interruption those not asked for yet are still dead: run it again.

    Args:
        archive: An `.mbtiles`, `.pmtiles` or `.gpkg` file, or a directory that a seed wrote.
        source: Where its tiles came from. An archive keeps no secrets, so it does not know its own source
            well enough.
        causes: Fine causes or classes (`policy/causes.py`): only letters of these; all when there are none.
        options: As for a seed; without them no share of failures is too large.
        watch, stop: As for a seed.

    Returns:
        The report of the tiles asked for: `complete` when none of them is dead.

    Raises:
        PlanError: No such archive, or tilehaul did not make it; it is another source's (unless
            `options.force_source`: its tiles come from a mirror then, and it stays the old source's); an
            unknown cause; the provider forbids bulk download. Nothing was sent.
        FuseError, StorageError: As a seed.
    """
    options = options or RETRY_OPTIONS_DEFAULT
    if options.overwrite:
        raise PlanError("a retry asks for dead tiles only, and has nothing to overwrite")
    check_causes(causes)
    await open_archive(archive).close()
    chosen = options

    async def plan_of(info: SourceInfo, store: JobStore) -> SeedPlan:
        tiles = await DeadTiles.of(store, causes)
        return plan_with(chosen, tiles, replay_key(info, len(tiles)), archive, job="retry")

    return await run_between(source, archive, plan_of, options=options, watch=watch, stop=stop)


def dead_letters(archive: str, *, causes: Collection[str] = ()) -> AsyncGenerator[DeadLetter, None]:
    """The dead letters of an archive in tile order, read as they are asked for.

    Who may leave the loop early says `async with contextlib.aclosing(...)`, so that the archive is closed.

    Args:
        archive: An `.mbtiles`, `.pmtiles` or `.gpkg` file, or a directory. One of another program has none.
        causes: Fine causes or classes; all when there are none.

    Raises:
        PlanError: No such archive, or an unknown cause.
        DataError, StorageError: The archive is damaged, or the disk refused.
    """
    check_causes(causes)
    return _letters(open_archive(archive), causes)


async def _letters(opened: TileArchive, causes: Collection[str]) -> AsyncGenerator[DeadLetter, None]:
    try:
        async for letter in opened.dead_letters(causes=causes):
            yield letter
    finally:
        await opened.close()


async def drop_dead_letters(
    archive: str,
    *,
    causes: Collection[str] = (),
    durability: Durability = "full",
    told: Callable[[DeadLetter], None] | None = None,
) -> int:
    """Do without the dead tiles of an archive: see `jobs.retry.drop`. Returns how many.

    Raises:
        PlanError: No such archive, tilehaul did not make it, another one is writing it, an unknown cause.
        StorageError: The disk refused.
    """
    check_causes(causes)
    await open_archive(archive).close()
    store = open_store(parse_location(archive), durability=durability)
    try:
        return await drop(store, causes, told=told)
    finally:
        await store.close()


def check_causes(causes: Collection[str]) -> None:
    """Raise PlanError for a word that is neither a class nor a cause, naming the nearest that is."""
    for word in causes:
        if word in CAUSE_CLASSES or word in CAUSES or class_of(word) != "other":
            continue
        near = difflib.get_close_matches(word, (*CAUSE_CLASSES, *CAUSES), n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else f"classes are {', '.join(CAUSE_CLASSES)}"
        raise PlanError(f"there is no cause {word[:40]!r}; {hint}")
