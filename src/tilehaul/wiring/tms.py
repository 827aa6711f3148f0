"""A TMS location and what the service says of the map become a source."""

import hashlib
import math
from urllib.parse import urljoin

from tilehaul.codec.safe_url import redact
from tilehaul.codec.service_address import service_address
from tilehaul.codec.sniff import media_type_of, plain_media_type
from tilehaul.codec.tms_tilemap import TileMap, parse_tile_map
from tilehaul.codec.url_template import Address, UrlTemplate
from tilehaul.codec.wms_request import MERCATOR_NAMES
from tilehaul.codec.wmts_request import CORNER_ERROR, WORLD_M, ZOOM_ERROR, ZOOM_MAX, ZoomMatrix
from tilehaul.config.sending import Sending
from tilehaul.errors import DataError, PlanError
from tilehaul.grid.mercator import degrees_of
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.wire import Sender
from tilehaul.sources.wmts import WmtsSource
from tilehaul.sources.xyz import XyzSource
from tilehaul.wiring.wms import fetch_capabilities, within_world

# Web Mercator's names in the field, the specification's own among them.
_SRS = frozenset({*MERCATOR_NAMES, "OSGEO:41001", "EPSG:41001"})


def tilemap_url(text: str) -> str:
    """The address of the map's document in `tms+https://host/tms/1.0.0/map`."""
    return text[len("tms+") :]


async def open_tms(url: str, asking: Sender, sending: Sending, *, tiles: Sender | None = None) -> WmtsSource:
    """Ask for the map's document through `asking`; tiles come through `tiles`, or `asking` too.

    Which set is which zoom follows from its units per pixel: some services begin with the world in one tile,
    others (MapProxy) in four.

    Raises:
        PlanError: The address is a service's list, or the map does not lie on the grid of Web Mercator tiles,
            or declares addresses that cannot be.
        TransferError, DataError: The document did not come, or is none.
    """
    shown = redact(url)
    body = await fetch_capabilities(url, asking, sending, "tile")
    try:
        said = parse_tile_map(body)
    except DataError as error:
        raise DataError(f"{shown}: {error}", cause=error.cause, url=shown, head=error.head) from None
    except PlanError as error:
        raise PlanError(f"{shown}: {error}") from None
    if said.srs not in _SRS:
        raise PlanError(f"{shown} is in {said.srs[:40] or 'no SRS'}: only Web Mercator (EPSG:3857) is read")
    hrefs = _by_zoom(said, url)
    if not hrefs:
        raise PlanError(f"{shown}: none of its {len(said.sets)} sets lies on the grid of Web Mercator tiles")
    # A key was typed for the host that was typed.
    same = all(_host(href) == _host(url) for href in hrefs.values())
    query = url.partition("?")[2] if same else ""
    extension = said.extension or "png"

    def url_of(tile_id: Address) -> str:
        # Rows are counted from the south.
        row = (1 << tile_id.z) - 1 - tile_id.y
        address = f"{hrefs[tile_id.z]}/{tile_id.x}/{row}.{extension}"
        return f"{address}?{query}" if query else address

    template = UrlTemplate(
        shown=shown,
        identity=hashlib.sha256(f"tms {shown} {extension}".encode()).hexdigest()[:16],
        media_type=plain_media_type(said.media_type) or media_type_of(extension),
        url=url_of,
        samples=tuple(hrefs.values()),
    )
    west, south = degrees_of(*said.box[:2])
    east, north = degrees_of(*said.box[2:])
    info = SourceInfo(
        name=shown,
        identity=template.identity,
        media_type=template.media_type,
        zoom_min=min(hrefs),
        zoom_max=max(hrefs),
        bounds_deg=within_world((west, south, east, north)),
        description=said.title,
    )
    xyz = XyzSource(template, tiles or asking, info, sending.headers if same else ())
    return WmtsSource(xyz, {z: ZoomMatrix(str(z), 0, 0, (0, (1 << z) - 1, 0, (1 << z) - 1)) for z in hrefs})


def _by_zoom(said: TileMap, url: str) -> dict[int, str]:
    """The address of each set that is a zoom of the XYZ grid, and begins in the world's lower left corner."""
    hrefs: dict[int, str] = {}
    for one in said.sets:
        side_m = one.units_per_pixel * said.tile_px[0]
        if said.tile_px[0] != said.tile_px[1] or not WORLD_M / (2 << ZOOM_MAX) <= side_m <= 2 * WORLD_M:
            continue
        zoom = math.log2(WORLD_M / side_m)
        z = round(zoom)
        if abs(zoom - z) > ZOOM_ERROR or not 0 <= z <= ZOOM_MAX:
            continue
        if any(abs(at + WORLD_M / 2) > side_m * CORNER_ERROR for at in said.origin):
            continue
        try:
            href = urljoin(url, one.href or ".").rstrip("/")
        except ValueError:
            # It is no address: below that is told in our words.
            href = one.href
        service_address(href, "the map declares for its tiles")
        hrefs[z] = href
    return hrefs


def _host(url: str) -> tuple[str, str]:
    parts = service_address(url, "the map declares for its tiles")
    return parts.scheme, parts.netloc.rpartition("@")[2]
