"""What a seed needs to keep, and to heed, when its tiles were last checked."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tilehaul.codec.safe_url import redact
from tilehaul.config.locations import SERVICES, parse_location
from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.clock import Clock
from tilehaul.ports.freshness import Note, Notes
from tilehaul.ports.origin import AskableSource
from tilehaul.ports.source import TileSource
from tilehaul.ports.store import JobStore
from tilehaul.sources.conditional import ConditionalSource
from tilehaul.stores.freshness import FreshnessFile, NotingStore
from tilehaul.stores.real_path import real_path
from tilehaul.wiring.places import AnyStore

# Asked tile by tile. The names of a PMTiles file are those of the whole file: a copy's --update is for that.
_ASKED = SERVICES | {"bucket"}
_KEEPING = ("mbtiles", "directory", "pmtiles", "geopackage")


def check_refresh(source: str, store: str, *, encodes: bool) -> None:
    """Refuse what cannot be checked tile by tile. Raises PlanError."""
    here, there = parse_location(source), parse_location(store)
    flags = "--refresh-older-than and --keep-freshness"
    if here.kind not in _ASKED:
        raise PlanError(f"{flags} need a tile service or a bucket as the source: {redact(here.text)} is none")
    if there.kind not in _KEEPING:
        raise PlanError(f"{flags} need a store on this disk: {redact(there.text)} is none")
    if encodes:
        raise PlanError(f"{flags} compare the source's bytes: leave out --format and --compression")


def freshness_path(store: str) -> Path:
    """The file beside the store, one for each table of a GeoPackage."""
    place = parse_location(store)
    table = f".{place.table}" if place.table else ""
    path = real_path(place.path)
    return path.with_name(f"{path.name}{table}.freshness")


class Refreshing:
    """The parts of one run, which share its notes: `stale`, `source` and `store`."""

    def __init__(self, file: FreshnessFile, keeper: AnyStore, older_s: float | None, clock: Clock) -> None:
        self._file = file
        self._keeper = keeper
        self._clock = clock
        self._before_s = None if older_s is None else clock.wall_s() - older_s
        self._known: Notes = {}
        self._observed: Notes = {}

    @property
    def store(self) -> JobStore:
        return NotingStore(self._keeper, self._file, self._observed)

    def source(self, inner: TileSource) -> TileSource:
        """The source that asks for what is known only if it has changed. PlanError: it cannot be asked so."""
        if not isinstance(inner, AskableSource):
            raise PlanError(f"{inner.info.name} cannot be asked for changes")
        return ConditionalSource(inner, self._keeper, self._known, self._observe, self._clock)

    async def stale(self, tile_ids: Sequence[TileId]) -> list[bool]:
        """For each tile, in order, whether it was last checked before the time that the run was told."""
        if self._before_s is None:
            return [False] * len(tile_ids)
        notes = await asyncio.to_thread(self._file.find, tile_ids)
        base = Note(self._file.base_s)
        old: list[bool] = []
        for tile_id in tile_ids:
            note = notes.get(tile_id, base)
            old.append(note.checked_s <= self._before_s)
            if old[-1] and note is not base:
                self._known[tile_id] = note
        return old

    def _observe(self, tile_id: TileId, note: Note) -> None:
        self._observed[tile_id] = note


@contextmanager
def refreshing(store: str, keeper: AnyStore, older_s: float | None, clock: Clock) -> Iterator[Refreshing]:
    """Open the file beside the store, before the store is taken. Raises StorageError."""
    place = parse_location(store)
    base_s = place.path.stat().st_mtime if place.path.exists() else clock.wall_s()
    path = freshness_path(store)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = FreshnessFile(path, base_s)
    try:
        yield Refreshing(file, keeper, older_s, clock)
    finally:
        file.close()
