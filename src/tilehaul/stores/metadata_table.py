"""The table `metadata(name, value)`: MBTiles 1.3's own, and the same in a directory's journal."""

from collections.abc import Mapping

import apsw

TABLE = "metadata"
_ROWS = "SELECT {}, {} FROM {} WHERE name IS NOT NULL AND value IS NOT NULL"


def schema(table: str = TABLE) -> str:
    """`table` is a name of our own, as everywhere here: it is not quoted."""
    return f"CREATE TABLE {table} (name TEXT, value TEXT);CREATE UNIQUE INDEX {table}_name ON {table} (name);"


def read_metadata(connection: apsw.Connection, table: str = TABLE) -> dict[str, str]:
    """The rows; a name that comes twice counts once, NULLs do not count."""
    try:
        rows = connection.execute(_ROWS.format("name", "value", table))
        return {str(name): str(value) for name, value in rows}
    except UnicodeDecodeError:
        # Text that is not UTF-8, from a program that wrote bytes as they came.
        rows = connection.execute(_ROWS.format("CAST(name AS BLOB)", "CAST(value AS BLOB)", table))
        return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in rows}


def write_metadata(
    connection: apsw.Connection, before: Mapping[str, str], after: Mapping[str, str], table: str = TABLE
) -> None:
    """Write the rows that differ from `before`; an empty value removes its row.

    Without an upsert, because the table of a file made by others may lack the unique index.
    """
    changed = {name: value for name, value in after.items() if value != before.get(name, "")}
    gone = [(name,) for name in {*changed, *(before.keys() - after.keys())}]
    connection.executemany(f"DELETE FROM {table} WHERE name = ?", gone)  # noqa: S608  our own name
    rows = [(name, value) for name, value in changed.items() if value]
    connection.executemany(f"INSERT INTO {table} (name, value) VALUES (?, ?)", rows)  # noqa: S608  our own name
