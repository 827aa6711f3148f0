"""The journal tables: what became of each tile, inside an MBTiles file or beside a directory.

`tilehaul_outcome(z, x, y)` is in the XYZ scheme. A store that keeps the tiles in the same file
journals only `absent`, `dead` and `dropped`; its own rows say `done`.
"""

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import apsw

from tilehaul.errors import DataError
from tilehaul.grid.tile_id import TileId
from tilehaul.policy.causes import is_among
from tilehaul.ports.store import DeadLetter, Deleted, Dropped, Outcome, State
from tilehaul.ports.tile import NoTile, Tile

# Column and row in one number: 30 bits each reach zoom 30.
KEY_BITS = 30
KEY_MASK = (1 << KEY_BITS) - 1
# A dead letter's text is for a person; an origin's novel is not kept.
MESSAGE_CHARS_MAX = 1000
# Rows read at a time when walking; each read is a transaction of its own, so a walk blocks no one.
PAGE_ROWS = 2048

# How a journal that is damaged is got rid of.
WAY_OUT = (
    "move it away and run the same command with --force-source: what is kept stays, the rest is fetched again"
)


def damaged(detail: str) -> DataError:
    """The error for a journal that says what no job has written."""
    return DataError(f"the store's journal is damaged ({detail}): {WAY_OUT}", cause="corrupt_archive")


class _States(dict[int, State]):
    def __missing__(self, number: int) -> State:
        raise damaged(f"it has the state {number!r}, which is none")


STATES: dict[int, State] = _States({1: "done", 2: "absent", 3: "dead", 4: "dropped"})
DONE, ABSENT, DEAD, DROPPED = STATES

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tilehaul_outcome (
  z INTEGER NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL,
  state INTEGER NOT NULL, detail TEXT NOT NULL,
  PRIMARY KEY (z, x, y)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tilehaul_dead_letter (
  z INTEGER NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL,
  cause TEXT NOT NULL, attempts INTEGER NOT NULL,
  url TEXT NOT NULL, message TEXT NOT NULL, body_head BLOB NOT NULL, at_s REAL NOT NULL DEFAULT 0,
  PRIMARY KEY (z, x, y)
);
"""
# A journal begun by an earlier version lacks the last column.
_HAS_TIME = "SELECT 1 FROM pragma_table_info('tilehaul_dead_letter') WHERE name = 'at_s'"
_ADD_TIME = "ALTER TABLE tilehaul_dead_letter ADD COLUMN at_s REAL NOT NULL DEFAULT 0"


def create_journal(connection: apsw.Connection) -> None:
    connection.execute(_SCHEMA)
    if not connection.execute(_HAS_TIME).fetchone():
        connection.execute(_ADD_TIME)


def drop_journal(connection: apsw.Connection) -> None:
    connection.execute("DROP TABLE IF EXISTS tilehaul_outcome; DROP TABLE IF EXISTS tilehaul_dead_letter")


def has_journal(connection: apsw.Connection) -> bool:
    rows = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tilehaul_outcome'")
    return rows.fetchone() is not None


def distinct_runs(outcomes: Sequence[Outcome]) -> Iterator[Sequence[Outcome]]:
    """Cut a batch where a tile comes again, so that the later outcome can be written after the earlier."""
    if len({outcome.tile_id for outcome in outcomes}) == len(outcomes):
        yield outcomes
        return
    run: dict[TileId, Outcome] = {}
    for outcome in outcomes:
        if outcome.tile_id in run:
            yield list(run.values())
            run = {}
        run[outcome.tile_id] = outcome
    yield list(run.values())


def write_outcomes(
    connection: apsw.Connection,
    outcomes: Sequence[Outcome],
    *,
    journal_done: bool,
    details: Mapping[TileId, str] = MappingProxyType({}),
) -> None:
    """Journal outcomes of different tiles.

    Args:
        connection: In a transaction.
        outcomes: At most one for each tile.
        journal_done: Write rows for done tiles, with their `details`. Otherwise the tiles' own rows
            say that they are done, and an earlier absence or dead letter has only to go.
        details: What a directory notes of done, dead and dropped tiles: the extension kept.
    """
    dead: list[DeadLetter] = []
    alive: list[tuple[int, int, int]] = []
    unnoted: list[tuple[int, int, int]] = []
    rows: list[tuple[int, int, int, int, str]] = []
    for outcome in outcomes:
        tile_id = outcome.tile_id
        z, x, y = address = (tile_id.z, tile_id.x, tile_id.y)
        if isinstance(outcome, DeadLetter):
            dead.append(outcome)
            rows.append((z, x, y, DEAD, details.get(tile_id, "")))
            continue
        alive.append(address)
        if isinstance(outcome, NoTile):
            rows.append((z, x, y, ABSENT, outcome.cause))
        elif isinstance(outcome, Dropped):
            rows.append((z, x, y, DROPPED, details.get(tile_id, "")))
        elif isinstance(outcome, Deleted) or not journal_done:
            unnoted.append(address)
        else:
            rows.append((z, x, y, DONE, details[tile_id]))
    # Mostly there is nothing to remove, and to look for each tile costs more than to note it.
    for table, addresses in (("tilehaul_dead_letter", alive), ("tilehaul_outcome", unnoted)):
        if addresses and connection.execute(f"SELECT 1 FROM {table} LIMIT 1").get is not None:  # noqa: S608  constants
            connection.executemany(f"DELETE FROM {table} WHERE z = ? AND x = ? AND y = ?", addresses)  # noqa: S608
    connection.executemany("INSERT OR REPLACE INTO tilehaul_outcome VALUES (?, ?, ?, ?, ?)", rows)
    connection.executemany(
        "INSERT OR REPLACE INTO tilehaul_dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        map(_dead_row, dead),
    )


def _dead_row(letter: DeadLetter) -> tuple[int, int, int, str, int, str, str, bytes, float]:
    z, x, y = letter.tile_id.z, letter.tile_id.x, letter.tile_id.y
    message = letter.message[:MESSAGE_CHARS_MAX]
    return (z, x, y, letter.cause, letter.attempts, letter.url, message, letter.body_head, letter.at_s)


def keys_by_zoom(tile_ids: Collection[TileId]) -> dict[int, "array[int]"]:
    """`x << 30 | y` of the ids, zoom by zoom: mostly of one, so to walk them once for each is no loss."""
    return {
        zoom: array("q", [i.x << KEY_BITS | i.y for i in tile_ids if i.z == zoom])
        for zoom in {i.z for i in tile_ids}
    }


def journalled(
    connection: apsw.Connection, keys: Mapping[int, "array[int]"]
) -> dict[int, dict[int, tuple[int, str]]]:
    """State number and detail by zoom and key, one query a zoom; pending tiles are left out."""
    query = (
        "SELECT c.value, t.state, t.detail FROM carray(?2) AS c CROSS JOIN tilehaul_outcome AS t "
        "ON t.z = ?1 AND t.x = c.value >> 30 AND t.y = c.value & ?3"
    )
    return {
        zoom: {
            key: (state, detail)
            for key, state, detail in connection.execute(query, (zoom, apsw.carray(values), KEY_MASK))
        }
        for zoom, values in keys.items()
    }


@dataclass(frozen=True, slots=True)
class JournalCounts:
    """What a journal holds besides done tiles; `dead_causes` are the dead letters by fine cause."""

    absent: int = 0
    dropped: int = 0
    dead_causes: dict[str, int] = field(default_factory=dict)

    @property
    def dead(self) -> int:
        return sum(self.dead_causes.values())


def counts(connection: apsw.Connection) -> JournalCounts:
    """All zero without a journal."""
    if not has_journal(connection):
        return JournalCounts()
    rows = connection.execute("SELECT state, count(*) FROM tilehaul_outcome GROUP BY state")
    by_state = {row[0]: int(row[1]) for row in rows}
    causes = connection.execute(
        "SELECT cause, count(*) FROM tilehaul_dead_letter GROUP BY cause ORDER BY cause"
    )
    return JournalCounts(
        by_state.get(ABSENT, 0), by_state.get(DROPPED, 0), {str(c): int(n) for c, n in causes}
    )


def details_of_done(connection: apsw.Connection) -> dict[str, int]:
    """How many tiles are done with each detail. Looks at every row."""
    rows = connection.execute(
        "SELECT detail, count(*) FROM tilehaul_outcome WHERE state = ? GROUP BY detail", (DONE,)
    )
    return {str(detail): int(count or 0) for detail, count in rows}


def has_dead(connection: apsw.Connection) -> bool:
    return connection.execute("SELECT 1 FROM tilehaul_dead_letter LIMIT 1").fetchone() is not None


def has_dropped(connection: apsw.Connection) -> bool:
    """Looks at every row when there is none."""
    rows = connection.execute("SELECT 1 FROM tilehaul_outcome WHERE state = ? LIMIT 1", (DROPPED,))
    return rows.fetchone() is not None


def dead_letters(
    read_page: Callable[[TileId | None], list[DeadLetter]], causes: Collection[str]
) -> Iterator[DeadLetter]:
    """See `JobStore.dead_letters`. `read_page` gives those after an address, as `dead_page` does."""
    after: TileId | None = None
    while page := read_page(after):
        yield from (letter for letter in page if is_among(letter.cause, causes))
        after = page[-1].tile_id


def dead_page(connection: apsw.Connection, after: TileId | None) -> list[DeadLetter]:
    """The next dead letters in tile order, at most `PAGE_ROWS`."""
    if not has_journal(connection):
        return []
    start = (-1, -1, -1) if after is None else (after.z, after.x, after.y)
    at_s = "at_s" if connection.execute(_HAS_TIME).fetchone() else "0.0"
    rows = connection.execute(
        f"SELECT z, x, y, cause, attempts, url, message, body_head, {at_s} FROM tilehaul_dead_letter "  # noqa: S608  constants
        "WHERE (z, x, y) > (?, ?, ?) ORDER BY z, x, y LIMIT ?",
        (*start, PAGE_ROWS),
    )
    try:
        return [DeadLetter(TileId(z, x, y), *others) for z, x, y, *others in rows]
    except UnicodeDecodeError as error:
        raise damaged("a dead letter of it is no text") from error


def tiles_of(outcomes: Iterable[Outcome]) -> list[Tile]:
    return [outcome for outcome in outcomes if isinstance(outcome, Tile)]


def gone_of(outcomes: Iterable[Outcome]) -> list[TileId]:
    """The tiles whose bytes go: those that are absent, and those that are deleted."""
    return [outcome.tile_id for outcome in outcomes if isinstance(outcome, NoTile | Deleted)]
