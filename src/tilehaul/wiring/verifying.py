"""`tilehaul verify`: an archive's structure by its kind, then its tiles."""

from pathlib import Path
from typing import TYPE_CHECKING

from tilehaul.config.locations import NEAR_KINDS, parse_location
from tilehaul.jobs.verify import Told, Verdict, verify
from tilehaul.sources.stored import StoredSource
from tilehaul.stores.archive_metadata import metadata_faults
from tilehaul.stores.directory_faults import directory_faults
from tilehaul.stores.pmtiles_faults import header_claims, pmtiles_faults, pmtiles_header
from tilehaul.stores.real_path import real_path
from tilehaul.stores.sqlite_faults import geopackage_faults, mbtiles_faults
from tilehaul.wiring.places import open_archive

if TYPE_CHECKING:
    from tilehaul.sources.decoded import DecodedSource


async def verify_archive(location: str, told: Told, *, decode: bool = False) -> Verdict:
    """Everything that can be known of an archive by reading it whole; see `jobs.verify.verify`.

    `decode`: every picture is decoded as well. Raises:
        ConfigError: For that the extra `pixels` is missing.
        PlanError: There is no such archive.
        DataError: It is too damaged to be walked.
        StorageError: The disk refused.
    """
    decoder = _decoder() if decode else None
    place = parse_location(location)
    archive = open_archive(place)
    try:
        # Opened as an archive first: a file of another kind is told of in the archive's own words.
        source = await StoredSource.open(archive, location=place.text)
        wrong: list[str] = []
        path = real_path(place.path) if place.kind in NEAR_KINDS else Path()
        is_file = place.kind == "pmtiles" and path.exists()
        if place.kind == "mbtiles":
            wrong = mbtiles_faults(path)
        elif place.kind == "geopackage":
            wrong = geopackage_faults(path, place.table)
        elif is_file:
            wrong = pmtiles_faults(path)
        elif place.kind == "directory":
            wrong = directory_faults(path)
        decoding = None if decoder is None else decoder(source)
        verdict = await verify(archive, decoding or source, told)
        verdict.decoded = 0 if decoding is None else decoding.decoded
    finally:
        await archive.close()
    if is_file:
        wrong += header_claims(pmtiles_header(path), zooms=verdict.by_zoom, kinds=verdict.kinds)
    verdict.wrong[:0] = wrong + metadata_faults(verdict.metadata)
    return verdict


def _decoder() -> "type[DecodedSource]":
    from tilehaul.sources.decoded import DecodedSource  # noqa: PLC0415  Pillow and libvips are an extra

    return DecodedSource
