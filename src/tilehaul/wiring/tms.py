"""A TMS location and what its TileMap says of itself become a source."""

import hashlib
from urllib.parse import urlsplit

from tilehaul.codec.safe_url import is_secret_name, redact
from tilehaul.codec.sniff import media_type_of
from tilehaul.codec.tms_tilemap import (
    GDAL_PROFILE,
    TileMap,
    TmsLocation,
    check_tile_map,
    level_address,
    parse_tile_map,
    parse_tms_location,
    tms_zooms,
)
from tilehaul.codec.url_template import Address, UrlTemplate
from tilehaul.codec.wms_request import with_query
from tilehaul.config.sending import Sending
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.mercator import degrees_of
from tilehaul.ports.source import WORLD_DEG, SourceInfo
from tilehaul.ports.wire import Sender
from tilehaul.sources.wmts import WmtsSource
from tilehaul.sources.xyz import XyzSource
from tilehaul.wiring.wms import fetch_capabilities, within_world

# Those 512 px wide are their zoom's by what they show, and twice as fine as others of it.
FINE_PX = 512


def tilemap_url(text: str) -> str:
    """The address of the document in `tms+https://host/tms/1.0.0/map`. Raises ConfigError."""
    return parse_tms_location(text).capabilities_url()


async def open_tms(url: str, asking: Sender, sending: Sending, *, tiles: Sender | None = None) -> WmtsSource:
    """Ask for the TileMap at `url` through `asking`; tiles come through `tiles`, or `asking` too.

    Raises:
        PlanError: A list of TileMaps, or one whose tiles are not those of the Web Mercator grid.
        TransferError, DataError: The TileMap did not come, or is none.
    """
    place = parse_tms_location("tms+" + url)
    body = await fetch_capabilities(place.capabilities_url(), asking, sending, "tile")
    try:
        said = parse_tile_map(body, place.address)
        check_tile_map(said)
        zooms = tms_zooms(said)
        levels = {z: level_address(each.identifier, place) for z, each in zooms.items()}
    except DataError as error:
        raise DataError(
            f"{place.shown}: {error}", cause=error.cause, url=place.shown, head=error.head
        ) from None
    except PlanError as error:
        raise PlanError(f"{place.shown}: {error}") from None
    typed = with_query("", place.extra, {}).removeprefix("?")
    here = _host(place.address)

    def end(base: str, query: str) -> str:
        # A key was typed for the host that was typed.
        more = typed if _host(base) == here else ""
        joined = "&".join(each for each in (query.removeprefix("?"), more) if each)
        return f".{said.extension}" + (f"?{joined}" if joined else "")

    whole = {z: (base, end(base, query)) for z, (base, query) in levels.items()}

    def url_of(tile_id: Address) -> str:
        base, tail = whole[tile_id.z]
        return f"{base}/{tile_id.x}/{tile_id.tms_y}{tail}"

    samples = {_host(base): f"{base}/0/0{tail}" for base, tail in whole.values()}
    template = UrlTemplate(
        shown=place.shown,
        identity=_identity(place, said, levels),
        media_type=said.media_type or media_type_of(said.extension),
        url=url_of,
        samples=tuple(samples.values()),
    )
    info = SourceInfo(
        name=place.shown,
        identity=template.identity,
        media_type=template.media_type,
        zoom_min=min(zooms),
        zoom_max=max(zooms),
        zooms=tuple(sorted(zooms)),
        bounds_deg=_bounds_deg(said),
        description=said.abstract or said.title,
        note="its tiles are 512 px wide" if said.tile_px[0] == FINE_PX else "",
    )
    headers = sending.headers if set(samples) == {here} else ()
    return WmtsSource(XyzSource(template, tiles or asking, info, headers), zooms)


def _host(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _identity(place: TmsLocation, said: TileMap, levels: dict[int, tuple[str, str]]) -> str:
    """16 hexadecimal digits: the same when a key changes or levels are added, others when a tile would be."""
    told = sorted(f"{name.lower()}={value}" for name, value in place.extra if not is_secret_name(name))
    lowest = min(levels)
    first = [redact(part) for part in levels[lowest]]
    parts = (redact(place.address), *first, str(said.tile_px[0]), said.extension, *told)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _bounds_deg(said: TileMap) -> tuple[float, float, float, float]:
    if said.bounds is None or said.profile == GDAL_PROFILE:
        return WORLD_DEG
    west, south, east, north = said.bounds
    return within_world((*degrees_of(west, south), *degrees_of(east, north)))
