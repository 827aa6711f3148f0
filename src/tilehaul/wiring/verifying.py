"""`tilehaul verify`: an archive's structure by its kind, then its tiles."""

from pathlib import Path

import apsw

from tilehaul.config.locations import parse_location
from tilehaul.jobs.verify import Told, Verdict, verify
from tilehaul.sources.stored import StoredSource
from tilehaul.stores.pmtiles_file import PmtilesFile
from tilehaul.stores.sqlite_file import from_sqlite, open_reading
from tilehaul.wiring.places import open_archive

# SQLite stops looking after so many faults.
FAULTS_MAX = 20


async def verify_archive(location: str, told: Told) -> Verdict:
    """Everything that can be known of an archive by reading it whole; see `jobs.verify.verify`.

    Raises:
        PlanError: There is no such archive.
        DataError: It is too damaged to be walked.
        StorageError: The disk refused.
    """
    place = parse_location(location)
    archive = open_archive(place)
    try:
        # Opened as an archive first: a file of another kind is told of in the archive's own words.
        source = await StoredSource.open(archive, location=place.text)
        wrong: list[str] = []
        if place.kind in ("mbtiles", "geopackage"):
            wrong = sqlite_faults(place.path)
        elif place.kind == "pmtiles" and place.path.exists():
            wrong = pmtiles_faults(place.path)
        verdict = await verify(archive, source, told)
    finally:
        await archive.close()
    verdict.wrong[:0] = wrong
    return verdict


def sqlite_faults(path: Path) -> list[str]:
    """What SQLite's own check finds; see its `PRAGMA quick_check`. DataError, StorageError."""
    connection = open_reading(path)
    try:
        rows = connection.execute(f"PRAGMA quick_check({FAULTS_MAX})").fetchall()
    except apsw.Error as error:
        raise from_sqlite(error, path, "checking") from error
    finally:
        connection.close(force=True)
    return [f"SQLite: {' '.join(str(row[0]).split())}" for row in rows if row[0] != "ok"]


def pmtiles_faults(path: Path) -> list[str]:
    """Where the header differs from the directories. DataError, StorageError.

    Walking them finds loops and entries out of order. Memory does not grow with the archive, so different
    bodies are counted only where the header says that they lie in the order of their ids (`clustered`).
    """
    file = PmtilesFile(path)
    try:
        header = file.header
        tiles = entries = bodies = stop = strays = 0
        for entry in file.walk():
            tiles += entry.run
            entries += 1
            # Clustered: a body begins where those before it end, or is one of them again.
            if entry.offset >= stop:
                bodies += 1
                strays += entry.offset > stop
                stop = entry.offset + entry.length
    finally:
        file.close()
    counts = [("tiles", header.addressed, tiles), ("entries", header.entries, entries)]
    if header.clustered:
        counts.append(("different tiles", header.contents, bodies))
    # The specification has 0 for "not known".
    wrong = [
        f"its header counts {said} {what}, there are {real}"
        for what, said, real in counts
        if said not in (0, real)
    ]
    if header.clustered and strays:
        wrong.append(f"its header says that tiles lie in order, and {strays} have a gap before them")
    return wrong
