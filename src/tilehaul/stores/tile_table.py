"""A table of tiles in an SQLite file: where an address stands in it, and the questions asked of it."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from tilehaul.codec.sniff import GZIP_MAGIC, sniff
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.ports.store import State
from tilehaul.stores import journal
from tilehaul.stores.archive_metadata import Bounds, bounds_of_columns

# A file made by others may hold anything in these columns: text, fractions, rows off the grid. Only whole
# numbers on the grid are addresses. The plus keeps the paging query on its own range of the index.
_WHOLE = "typeof(zoom_level) = 'integer' AND typeof(tile_column) = 'integer' AND typeof(tile_row) = 'integer'"
_ON_WORLD = (
    f"+zoom_level BETWEEN 0 AND {ZOOM_MAX} "
    "AND +tile_column BETWEEN 0 AND (1 << zoom_level) - 1 AND +tile_row BETWEEN 0 AND (1 << zoom_level) - 1"
)
# What `sniff` looks at, and how many heads are remembered.
HEAD_BYTES = 512
KNOWN_MAX = 1000


@dataclass(frozen=True, slots=True)
class Level:
    """The tiles of one zoom: XYZ column x and row y stand at `column_0 + x`, `row_0 + row_step * y`.

    `row_step` is 1 where rows are counted from the north, -1 from the south. `columns` and `rows` is how many
    the table has of each, from 0 on.
    """

    zoom: int
    stored_zoom: int
    column_0: int
    row_0: int
    row_step: int
    columns: int
    rows: int

    def place(self, tile_id: TileId) -> tuple[int, int, int]:
        """Zoom, column and row as stored."""
        return self.stored_zoom, self.column_0 + tile_id.x, self.row_0 + self.row_step * tile_id.y

    def address(self, column: int, row: int) -> TileId:
        return TileId(self.zoom, column - self.column_0, (row - self.row_0) * self.row_step)


FROM_SOUTH = tuple(Level(z, z, 0, (1 << z) - 1, -1, 1 << z, 1 << z) for z in range(ZOOM_MAX + 1))
FROM_NORTH = tuple(Level(z, z, 0, 0, 1, 1 << z, 1 << z) for z in range(ZOOM_MAX + 1))


class TileTable:
    """A table or view `(zoom_level, tile_column, tile_row, tile_data)`.

    Args:
        name: Its name, as it is; quoted in every query.
        levels: One for each zoom, by stored zoom as well as by zoom ascending.
    """

    def __init__(self, name: str, levels: Sequence[Level]) -> None:
        self.name = name
        self.quoted = quoted(name)
        self.levels: Mapping[int, Level] = {level.zoom: level for level in levels}
        self._stored = {level.stored_zoom: level for level in levels}
        whole_world = levels in (FROM_SOUTH, FROM_NORTH)
        on_grid = f"{_WHOLE} AND ({_ON_WORLD if whole_world else _on_levels(levels)})"
        # NULL and empty are how some writers say "no tile".
        tile = f"{on_grid} AND length(tile_data) > 0"
        table = self.quoted
        self._get = f"SELECT tile_data FROM {table} WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"  # noqa: S608  quoted
        self._zoom = f"SELECT zoom_level FROM {table} WHERE {tile} ORDER BY zoom_level {{}} LIMIT 1"  # noqa: S608  quoted
        self._box = (
            "SELECT min(tile_column), max(tile_column), min(tile_row), max(tile_row) "  # noqa: S608  quoted
            f"FROM {table} WHERE zoom_level = ? AND {on_grid}"
        )
        # In the table's own order: three times faster than looking each row up from the index.
        self._counts = (
            f"SELECT zoom_level, count(*) FROM {table} WHERE {tile} GROUP BY +zoom_level ORDER BY 1"  # noqa: S608  quoted
        )
        self._page = (
            f"SELECT zoom_level, tile_column, tile_row FROM {table} "  # noqa: S608  quoted
            f"WHERE (zoom_level, tile_column, tile_row) > (?, ?, ?) AND {tile} "
            "ORDER BY zoom_level, tile_column, tile_row LIMIT ?"
        )
        self._first = f"SELECT tile_data FROM {table} WHERE typeof(tile_data) = 'blob' AND {tile} LIMIT 1"  # noqa: S608  quoted
        self._heads = f"SELECT substr(tile_data, 1, {HEAD_BYTES}) FROM {table} WHERE {tile}"  # noqa: S608  quoted
        there = (
            "t.zoom_level = ?1 AND t.tile_column = ?5 + (c.value >> 30) "
            "AND t.tile_row = ?3 + ?6 * (c.value & ?4) "
            # A row without bytes is no tile: it is fetched, and replaced.
            "AND length(t.tile_data) > 0"
        )
        self._kept = f"SELECT c.value FROM carray(?2) AS c CROSS JOIN {table} AS t ON {there}"  # noqa: S608  quoted
        self._how_many = (
            f"SELECT count(*) FROM carray(?2) AS c WHERE EXISTS (SELECT 1 FROM {table} AS t WHERE {there})"  # noqa: S608
        )

    def get(self, connection: apsw.Connection, tile_id: TileId) -> object:
        """What is stored there, of whatever type; None where there is no row."""
        level = self.levels.get(tile_id.z)
        return None if level is None else connection.execute(self._get, level.place(tile_id)).get

    def place(self, tile_id: TileId) -> tuple[int, int, int]:
        return self.levels[tile_id.z].place(tile_id)

    def has_tiles(self, connection: apsw.Connection) -> bool:
        """Whether there is any row."""
        return connection.execute(f"SELECT 1 FROM {self.quoted} LIMIT 1").fetchone() is not None  # noqa: S608  quoted

    def zoom_range(self, connection: apsw.Connection) -> tuple[int, int] | None:
        """Least and greatest zoom kept; None without a tile."""
        lowest = connection.execute(self._zoom.format("ASC")).get
        highest = connection.execute(self._zoom.format("DESC")).get
        if not isinstance(lowest, int) or not isinstance(highest, int):
            return None
        return self._stored[lowest].zoom, self._stored[highest].zoom

    def bounds(self, connection: apsw.Connection, zoom: int) -> Bounds | None:
        """The box of the tiles of one zoom, in degrees; from the index alone, so empty rows count."""
        level = self.levels[zoom]
        row = connection.execute(self._box, (level.stored_zoom,)).fetchone()
        if row is None or row[0] is None:
            return None
        west, east, first, last = row
        corners = level.address(west, first), level.address(east, last)
        north, south = sorted(corner.y for corner in corners)
        return bounds_of_columns(zoom, (corners[0].x, corners[1].x), (north, south))

    def counts(self, connection: apsw.Connection) -> dict[int, int]:
        """Tiles by zoom; looks at every row's length."""
        rows = connection.execute(self._counts)
        return {self._stored[int(zoom or 0)].zoom: int(count or 0) for zoom, count in rows}

    def page(
        self, connection: apsw.Connection, after: tuple[int, int, int] | None, rows_max: int
    ) -> list[tuple[int, int, int]]:
        """The next places as stored, in the order of the index."""
        rows = connection.execute(self._page, (*(after or (-1, -1, -1)), rows_max))
        # They are integers already (`_WHOLE`): this says so to the type checker.
        return [(int(z or 0), int(x or 0), int(y or 0)) for z, x, y in rows]

    def addresses(self, places: Iterable[tuple[int, int, int]]) -> list[TileId]:
        return [self._stored[zoom].address(column, row) for zoom, column, row in places]

    def first_media_type(self, connection: apsw.Connection) -> str:
        """What some tile's bytes are; empty without a tile, or when they are of no known kind."""
        body = connection.execute(self._first).get
        return sniff(body) if isinstance(body, bytes) else ""

    def kinds(self, connection: apsw.Connection) -> dict[str, int]:
        """Tiles by media type, "" for what is none we know; looks at the head of every tile."""
        kinds: dict[str, int] = {}
        known: dict[bytes, str] = {}
        for (head,) in connection.execute(self._heads):
            kind = ""
            if isinstance(head, bytes):
                # Heads that begin alike are of one kind. WebP has its size in between; gzip has none behind.
                alike = head[:3] if head.startswith(GZIP_MAGIC) else head[:4] + head[8:12]
                if alike not in known:
                    known = known if len(known) < KNOWN_MAX else {}
                    known[alike] = sniff(head)
                kind = known[alike]
            kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def states(self, connection: apsw.Connection, tile_ids: Sequence[TileId]) -> list[State | None]:
        """See `JobStore.settled`; one query a zoom for the tiles, one for the journal."""
        keys = journal.keys_by_zoom(tile_ids)
        noted = journal.journalled(connection, keys) if journal.has_journal(connection) else {}
        wanted = [(zoom, self._asked(zoom, values)) for zoom, values in keys.items() if zoom in self.levels]
        # A job of millions that goes on: nearly every page is whole, and to count is half the work.
        if not any(noted.values()):
            there = sum(int(connection.execute(self._how_many, asked).get or 0) for _, asked in wanted)
            if there == len(tile_ids):
                return ["done"] * len(tile_ids)
        kept: dict[int, set[object]] = {zoom: set() for zoom in keys}
        for zoom, asked in wanted:
            kept[zoom] = {row[0] for row in connection.execute(self._kept, asked)}
        answer: list[State | None] = []
        for tile_id in tile_ids:
            key = tile_id.x << journal.KEY_BITS | tile_id.y
            # The journal speaks last: a tile kept from before may have died when it was fetched anew.
            note = noted[tile_id.z].get(key) if noted else None
            if note is not None:
                answer.append(journal.STATES[note[0]])
            else:
                answer.append("done" if key in kept[tile_id.z] else None)
        return answer

    def _asked(self, zoom: int, keys: "array[int]") -> tuple[Any, ...]:
        level = self.levels[zoom]
        place = (level.row_0, journal.KEY_MASK, level.column_0, level.row_step)
        return (level.stored_zoom, apsw.carray(keys), *place)

    def has_unique_index(self, connection: apsw.Connection) -> bool:
        """Whether one address can have one row only."""
        for _, name, unique, *_ in connection.execute(f"PRAGMA index_list({self.quoted})").fetchall():
            columns = {row[2] for row in connection.execute(f"PRAGMA index_info({quoted(str(name))})")}
            if unique and columns == {"zoom_level", "tile_column", "tile_row"}:
                return True
        return False


def quoted(name: str) -> str:
    """An SQL identifier, whatever is in it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _on_levels(levels: Sequence[Level]) -> str:
    boxes = (
        f"+zoom_level = {level.stored_zoom} AND +tile_column BETWEEN 0 AND {level.columns - 1} "
        f"AND +tile_row BETWEEN 0 AND {level.rows - 1}"
        for level in levels
    )
    return " OR ".join(boxes) or "0"
