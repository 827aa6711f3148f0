"""Is an archive's file sound, apart from its tiles: what its records say against what is there. Blocking."""

from collections.abc import Callable
from pathlib import Path

import apsw

from tilehaul.errors import DataError
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.sqlite_file import from_sqlite, open_reading

# Faults that SQLite tells of one file; the rest would say the same.
FAULTS_MAX = 20


def check_structure(kind: str, path: Path) -> list[str]:
    """What is wrong with a file, a line each; nothing for kinds that have no structure of their own.

    Reads a SQLite file once, a PMTiles file's directories. Raises as `open_reading` and `PmtilesFile`,
    but DataError is a line.
    """
    check = _CHECKS.get(kind)
    if check is None or not path.is_file():
        return []
    try:
        return check(path)
    except DataError as error:
        return [str(error)]


def _sqlite(path: Path) -> list[str]:
    connection = open_reading(path)
    try:
        rows = [str(row[0]) for row in connection.execute(f"PRAGMA quick_check({FAULTS_MAX})")]
        return [f"SQLite: {row}" for row in rows if row != "ok"]
    except apsw.Error as error:
        raise from_sqlite(error, path, "checking") from error
    finally:
        connection.close(force=True)


def _pmtiles(path: Path) -> list[str]:
    file = PmtilesFile(path)
    try:
        header = file.header
        tiles = entries = contents = end = 0
        packed = True
        for entry in file.walk():
            tiles += entry.run
            entries += 1
            # Clustered: a body lies behind all before it, or is one of them again.
            if entry.offset >= end:
                contents += 1
                packed = packed and entry.offset == end
                end = entry.offset + entry.length
        told = [("tiles", header.addressed, tiles), ("directory entries", header.entries, entries)]
        if header.clustered:
            told.append(("different bodies", header.contents, contents))
        faults = [
            f"its header says {declared:,} {what}, there are {found:,}"
            for what, declared, found in told
            if declared not in (0, found)
        ]
        if header.clustered and not packed:
            faults.append("its header says that tiles lie in the order of their ids, and they do not")
        return faults
    finally:
        file.close()


_CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "mbtiles": _sqlite,
    "geopackage": _sqlite,
    "pmtiles": _pmtiles,
}
