"""What is refused before a job begins."""

import os
from collections.abc import Collection

from tilehaul.codec.wms_request import parse_wms_location
from tilehaul.config.locations import NEAR_KINDS, Location, parse_location
from tilehaul.config.sending import Sending
from tilehaul.errors import PlanError
from tilehaul.grid.area import zooms_text
from tilehaul.net.manners import check_bulk, check_contact
from tilehaul.ports.source import SourceInfo
from tilehaul.sources.reencoded import Encoding
from tilehaul.wiring.named import xyz_urls
from tilehaul.wiring.places import DECLARED, document_url, open_store
from tilehaul.wiring.remote import remote_urls


def check_places(source: str, store: str, sending: Sending, encoding: Encoding | None = None) -> None:
    """Refuse what no seed could begin with, without looking at disk or network.

    Raises:
        PlanError: A location is none, both are the same place, the store cannot keep tiles, or not as the
            encoding has them, the provider forbids bulk download, or a rate is given for a local source.
        ConfigError: The URL template is wrong.
    """
    here, there = parse_location(source), parse_location(store)
    open_store(there)
    if here.kind == there.kind and _name_of(here) == _name_of(there):
        raise PlanError(f"{store} is the source as well as the store: name another store")
    if sending.rate_limit is not None and here.kind in NEAR_KINDS:
        raise PlanError(
            f"--rate-limit holds back requests, and {source} is read from this machine: leave it out"
        )
    if encoding is not None and encoding.compression == "none" and there.kind == "pmtiles":
        raise PlanError(
            f"{store}: a PMTiles file zips vector tiles in any case: leave out --compression none, or name an"
            " .mbtiles file"
        )
    if samples := typed_urls(here):
        check_bulk(samples, sending.rules())


def check_zooms(info: SourceInfo, zooms: Collection[int]) -> None:
    """Raise PlanError when zooms are asked for that the source declares not to have."""
    lacking = sorted(set(zooms) - set(info.zooms)) if info.zooms else []
    if lacking:
        there = sorted(set(zooms) & set(info.zooms))
        hint = f": give -z {zooms_text(there)}" if there else ""
        raise PlanError(f"{info.name} has zooms {zooms_text(info.zooms)}, not {zooms_text(lacking)}{hint}")


def typed_urls(place: Location) -> tuple[str, ...]:
    """An address on every host that a location names; none for what is no tile service and no remote file."""
    if place.kind in ("xyz", "provider"):
        return xyz_urls(place)
    if place.kind in DECLARED:
        return (document_url(place),)
    if place.kind == "wms":
        return (parse_wms_location(place.text).capabilities_url(),)
    return remote_urls(place) if place.kind == "remote" else ()


def _name_of(place: Location) -> str:
    return place.text.rstrip("/") if place.kind in ("bucket", "remote") else os.path.realpath(place.path)


async def check_location(location: str, sending: Sending) -> None:
    """Refuse a tile service that must not be loaded with a job. Raises PlanError, ConfigError."""
    samples = typed_urls(parse_location(location))
    if samples:
        check_bulk(samples, sending.rules())
        await check_contact(samples, contact=sending.contact)
