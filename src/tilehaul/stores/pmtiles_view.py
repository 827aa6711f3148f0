"""A PMTiles file and the journal beside it, read as one archive.

A tile is what the journal's spool has of it, else what the file has, unless the journal says that it is
absent or gone.
"""

import heapq
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice

import apsw

from tilehaul.codec.pmtiles import TILE_TYPE_MAX, TILE_TYPES
from tilehaul.codec.pmtiles_directory import expanded
from tilehaul.grid.hilbert import hilbert_id
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import State
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import Bounds, bounds_of_columns
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.pmtiles_spool import has_gone, has_spool

# A foreign file without bounds is looked through for so many tiles; beyond, it is taken for the world.
BOUNDS_TILES_MAX = 1_000_000


def first_of_zoom(zoom: int) -> int:
    """The id of the first tile of a zoom."""
    return ((1 << 2 * zoom) - 1) // 3


def zoom_of(number: int) -> int:
    """The zoom of a PMTiles id."""
    return (3 * number + 1).bit_length() - 1 >> 1


class View:
    """What is kept and what is known, over both. Raises apsw.Error, DataError, StorageError.

    Args:
        connection: The journal's, None without one.
        base: The file, None before there is one.
    """

    def __init__(self, connection: apsw.Connection | None, base: PmtilesFile | None) -> None:
        self.base = base
        self._journal = connection if connection is not None and journal.has_journal(connection) else None
        self._spool = connection if connection is not None and has_spool(connection) else None
        self._has_gone = self._spool is not None and has_gone(self._spool)

    def states(self, tile_ids: Sequence[TileId]) -> list[State | None]:
        """See `JobStore.settled`."""
        noted = self._noted(tile_ids)
        numbers = [hilbert_id(tile_id.z, tile_id.x, tile_id.y) for tile_id in tile_ids]
        # A job of millions that goes on: nearly every page is whole, and to count is half the work.
        if self._spool is not None and numbers and noted.count(None) == len(noted):
            query = "SELECT count(*) FROM carray(?) AS c WHERE c.value IN (SELECT id FROM tilehaul_tile)"
            if self._spool.execute(query, (apsw.carray(array("q", numbers)),)).get == len(numbers):
                return ["done"] * len(numbers)
        spooled, gone = self._spooled(numbers), self._gone(numbers)
        states: list[State | None] = []
        for number, note in zip(numbers, noted, strict=True):
            if note is not None:
                states.append(note)
            elif number in spooled or (
                number not in gone and self.base is not None and self.base.find(number) is not None
            ):
                states.append("done")
            else:
                states.append(None)
        return states

    def _noted(self, tile_ids: Sequence[TileId]) -> list[State | None]:
        if self._journal is None:
            return [None] * len(tile_ids)
        notes = journal.journalled(self._journal, journal.keys_by_zoom(tile_ids))
        if not any(notes.values()):
            return [None] * len(tile_ids)
        found = [notes[i.z].get(i.x << journal.KEY_BITS | i.y) for i in tile_ids]
        return [None if note is None else journal.STATES[note[0]] for note in found]

    def _spooled(self, numbers: Sequence[int]) -> set[int]:
        if self._spool is None or not numbers:
            return set()
        query = "SELECT t.id FROM carray(?) AS c CROSS JOIN tilehaul_tile AS t ON t.id = c.value"
        return {int(row[0] or 0) for row in self._spool.execute(query, (apsw.carray(array("q", numbers)),))}

    def _gone(self, numbers: Sequence[int]) -> set[int]:
        """Those of the ids that are deleted, and that a spool may have again."""
        if self._spool is None or not self._has_gone or not numbers:
            return set()
        query = "SELECT g.id FROM carray(?) AS c CROSS JOIN tilehaul_gone AS g ON g.id = c.value"
        return {int(row[0] or 0) for row in self._spool.execute(query, (apsw.carray(array("q", numbers)),))}

    def hidden(self, numbers: Sequence[int]) -> set[int]:
        """Those of the ids that the file has no say in: the spool has them, or they are absent or gone."""
        return self._absent(numbers) | self._gone(numbers) | self._spooled(numbers)

    def removed(self, numbers: Sequence[int]) -> set[int]:
        """Those of the ids that are absent, or gone and not there again."""
        gone = self._gone(numbers)
        return self._absent(numbers) | (gone - self._spooled(numbers) if gone else gone)

    def _absent(self, numbers: Sequence[int]) -> set[int]:
        noted = self._noted([TileId.from_pmtiles_id(number) for number in numbers])
        return {number for number, note in zip(numbers, noted, strict=True) if note == "absent"}

    def page(self, after: int, count: int) -> list[int]:
        """The next ids beyond `after`, ascending, at most `count`; none at the end."""
        while True:
            spooled = self.page_of_spool(after, count)
            based: list[int] = []
            if self.base is not None:
                based = [i for i, _, _ in islice(expanded(self.base.walk(after), after), count)]
            merged = list(islice(dict.fromkeys(heapq.merge(spooled, based)), count))
            if not merged:
                return []
            removed = self.removed(merged)
            left = [number for number in merged if number not in removed]
            if left:
                return left
            after = merged[-1]

    def changes_base(self) -> bool:
        """Whether a tile waits for the file, or one of its tiles is absent or gone by now."""
        if self.base is None or self.page_of_spool(-1, 1):
            return True
        return next(self._hidden_in_base(self.base), None) is not None

    def _hidden_in_base(self, base: PmtilesFile) -> Iterator[TileId]:
        """Its tiles that are absent or gone by now, and that the spool has not again."""
        if self._journal is not None:
            query = "SELECT z, x, y FROM tilehaul_outcome WHERE state = ?"
            for z, x, y in self._journal.execute(query, (journal.ABSENT,)):
                tile_id = TileId(int(z or 0), int(x or 0), int(y or 0))
                if base.find(tile_id.pmtiles_id) is not None:
                    yield tile_id
        if self._spool is not None and self._has_gone:
            query = "SELECT id FROM tilehaul_gone WHERE id NOT IN (SELECT id FROM tilehaul_tile)"
            for (number,) in self._spool.execute(query):
                tile_id = TileId.from_pmtiles_id(int(number or 0))
                if base.find(int(number or 0)) is not None and self._noted([tile_id]) != ["absent"]:
                    yield tile_id

    def page_of_spool(self, after: int, count: int) -> list[int]:
        """As `page`, of what waits for the file only."""
        if self._spool is None:
            return []
        query = "SELECT id FROM tilehaul_tile WHERE id > ? ORDER BY id LIMIT ?"
        return [int(row[0] or 0) for row in self._spool.execute(query, (after, count))]

    def counts_by_zoom(self) -> dict[int, int]:
        """Tiles kept, by zoom. Reads every directory, and every row of the spool."""
        counts: dict[int, int] = {}
        if self.base is not None:
            for first, run, _, _ in self.base.walk():
                number = first
                while number < first + run:
                    zoom = zoom_of(number)
                    stop = min(first + run, first_of_zoom(zoom + 1))
                    counts[zoom] = counts.get(zoom, 0) + stop - number
                    number = stop
        if self._spool is not None:
            for (number,) in self._spool.execute("SELECT id FROM tilehaul_tile"):
                if self.base is None or self.base.find(int(number or 0)) is None:
                    zoom = zoom_of(int(number or 0))
                    counts[zoom] = counts.get(zoom, 0) + 1
        if self.base is not None:
            for tile_id in self._hidden_in_base(self.base):
                counts[tile_id.z] -= 1
        return {zoom: count for zoom, count in sorted(counts.items()) if count}

    def zooms(self) -> tuple[int, int] | None:
        """Least and greatest zoom kept, of a file by its header; None without a tile."""
        found: list[int] = []
        if self.base is not None and not self.base.empty:
            found += (self.base.header.zoom_min, self.base.header.zoom_max)
        if self._spool is not None:
            for order in ("ASC", "DESC"):
                query = f"SELECT id FROM tilehaul_tile ORDER BY id {order} LIMIT 1"  # noqa: S608  constants
                number = self._spool.execute(query).get
                found += [] if number is None else [zoom_of(int(number))]
        return (min(found), max(found)) if found else None

    def zooms_counted(self) -> tuple[int, int] | None:
        """As `zooms`, of the tiles that are kept now; looks at each of them."""
        found = self.counts_by_zoom()
        return (min(found), max(found)) if found else None

    def bounds(self, zoom: int) -> Bounds | None:
        """The box of one zoom's tiles; None without any, or when they are more than BOUNDS_TILES_MAX."""
        columns, rows = [1 << zoom, -1], [1 << zoom, -1]
        after, stop, seen = first_of_zoom(zoom) - 1, first_of_zoom(zoom + 1), 0
        while page := [number for number in self.page(after, journal.PAGE_ROWS) if number < stop]:
            for number in page:
                tile_id = TileId.from_pmtiles_id(number)
                columns = [min(columns[0], tile_id.x), max(columns[1], tile_id.x)]
                rows = [min(rows[0], tile_id.y), max(rows[1], tile_id.y)]
            after = page[-1]
            seen += len(page)
            if seen > BOUNDS_TILES_MAX:
                return None
        if not seen:
            return None
        return bounds_of_columns(zoom, (columns[0], columns[1]), (rows[0], rows[1]))

    def tile_type(self) -> int:
        """The PMTiles code of most tiles' kind; 0 for "other", and without a tile."""
        if self._spool is not None:
            kind = self._most_frequent("SELECT {} FROM tilehaul_content")
            if kind is not None:
                return kind
        return 0 if self.base is None else self.base.header.tile_type

    def tile_type_counted(self) -> int:
        """As `tile_type`, of a spool that indexes all tiles; looks at each of them."""
        query = "SELECT {} FROM tilehaul_tile AS t JOIN tilehaul_content AS c ON c.key = t.key"
        return self._most_frequent(query) or 0

    def _most_frequent(self, query: str) -> int | None:
        """The least of the kinds that most rows have; None without a row. Grouping would sort them all."""
        if self._spool is None:
            return None
        kinds = range(TILE_TYPE_MAX + 1)
        sums = ", ".join(f"sum(kind = {kind})" for kind in kinds)
        counts = [int(count or 0) for count in self._spool.execute(query.format(sums)).fetchone() or ()]
        return counts.index(max(counts)) if any(counts) else None

    def media_type(self) -> str:
        """Of most tiles; empty where PMTiles has no word for it."""
        return TILE_TYPES.get(self.tile_type(), "")
