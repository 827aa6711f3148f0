"""`tilehaul verify`: an archive's structure by its kind, then its tiles."""

from tilehaul.config.locations import parse_location
from tilehaul.jobs.verify import Told, Verdict, verify
from tilehaul.sources.stored import StoredSource
from tilehaul.stores.archive_metadata import metadata_faults
from tilehaul.stores.directory_faults import directory_faults
from tilehaul.stores.pmtiles_faults import header_claims, pmtiles_faults, pmtiles_header
from tilehaul.stores.sqlite_faults import geopackage_faults, mbtiles_faults
from tilehaul.wiring.places import open_archive


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
        is_file = place.kind == "pmtiles" and place.path.exists()
        if place.kind == "mbtiles":
            wrong = mbtiles_faults(place.path)
        elif place.kind == "geopackage":
            wrong = geopackage_faults(place.path, place.table)
        elif is_file:
            wrong = pmtiles_faults(place.path)
        elif place.kind == "directory":
            wrong = directory_faults(place.path)
        verdict = await verify(archive, source, told)
    finally:
        await archive.close()
    if is_file:
        wrong += header_claims(pmtiles_header(place.path), zooms=verdict.by_zoom, kinds=verdict.kinds)
    verdict.wrong[:0] = wrong + metadata_faults(verdict.metadata)
    return verdict
