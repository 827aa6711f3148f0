"""What is wrong in a PMTiles file beyond its tiles' bytes: where the header differs from what is there."""

from collections.abc import Collection
from pathlib import Path

from tilehaul.codec.pmtiles import TILE_TYPE_MAX, TILE_TYPES, PmtilesHeader
from tilehaul.stores.pmtiles_file import PmtilesFile


def pmtiles_header(path: Path) -> PmtilesHeader:
    """The header as it is. DataError, StorageError."""
    file = PmtilesFile(path)
    try:
        return file.header
    finally:
        file.close()


def header_claims(header: PmtilesHeader, *, zooms: Collection[int], kinds: Collection[str]) -> list[str]:
    """What the header says of tiles that are of these zooms and media types, and is not so."""
    wrong = []
    said = TILE_TYPES.get(header.tile_type, "")
    if header.tile_type > TILE_TYPE_MAX:
        wrong.append(f"its header's tile type is number {header.tile_type}, which does not exist")
    wrong += [
        f"its header's tile type is {said}, some tiles are {kind}" for kind in kinds if said not in ("", kind)
    ]
    if zooms and (header.zoom_min, header.zoom_max) != (min(zooms), max(zooms)):
        wrong.append(
            f"its header says zooms {header.zoom_min} to {header.zoom_max},"
            f" its tiles are of {min(zooms)} to {max(zooms)}"
        )
    west, south, east, north = header.bounds_deg
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        wrong.append(f"its header's bounds are {west:g},{south:g},{east:g},{north:g}")
    longitude, latitude, zoom = header.center
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90 and zoom <= max(header.zoom_max, 0)):
        wrong.append(f"its header's center is {longitude:g},{latitude:g} at zoom {zoom}")
    return wrong


def pmtiles_faults(path: Path) -> list[str]:
    """Where the header differs from the directories. DataError, StorageError.

    Walking them finds loops and entries out of order. Memory does not grow with the archive, so different
    bodies are counted only where the header says that they lie in the order of their ids (`clustered`).
    """
    file = PmtilesFile(path)
    try:
        header, empty = file.header, file.empty
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
    if empty:
        wrong.append(
            "its root directory is empty: readers other than this one may refuse it (specification 3.1)"
        )
    if header.clustered and strays:
        wrong.append(f"its header says that tiles lie in order, and {strays} have a gap before them")
    return wrong
