"""The table `metadata(name, value)`: MBTiles 1.3's own, and the same in a directory's journal."""

from collections.abc import Mapping

import apsw

SCHEMA = """
CREATE TABLE metadata (name TEXT, value TEXT);
CREATE UNIQUE INDEX metadata_name ON metadata (name);
"""
_ROWS = "SELECT {}, {} FROM metadata WHERE name IS NOT NULL AND value IS NOT NULL"


def read_metadata(connection: apsw.Connection) -> dict[str, str]:
    """The rows; a name that comes twice counts once, NULLs do not count."""
    try:
        return {str(name): str(value) for name, value in connection.execute(_ROWS.format("name", "value"))}
    except UnicodeDecodeError:
        # Text that is not UTF-8, from a program that wrote bytes as they came.
        rows = connection.execute(_ROWS.format("CAST(name AS BLOB)", "CAST(value AS BLOB)"))
        return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in rows}


def write_metadata(connection: apsw.Connection, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Write the rows that differ from `before`; an empty value removes its row.

    Without an upsert, because the table of a file made by others may lack the unique index.
    """
    changed = {name: value for name, value in after.items() if value != before.get(name, "")}
    gone = [(name,) for name in {*changed, *(before.keys() - after.keys())}]
    connection.executemany("DELETE FROM metadata WHERE name = ?", gone)
    rows = [(name, value) for name, value in changed.items() if value]
    connection.executemany("INSERT INTO metadata (name, value) VALUES (?, ?)", rows)
