"""A WMS location and what the service says of itself become a source."""

from urllib.parse import parse_qsl, urlsplit

from tilehaul.codec.safe_url import redact
from tilehaul.codec.service_address import service_address
from tilehaul.codec.sniff import plain_media_type
from tilehaul.codec.verify import SIDE_PX_MAX
from tilehaul.codec.wms_capabilities import WmsCapabilities, WmsLayer, parse_wms_capabilities
from tilehaul.codec.wms_choices import check_dimensions, chosen_styles, no_such
from tilehaul.codec.wms_request import DEGREE_NAMES, MERCATOR_NAMES, VERSIONS, MapRequest, WmsLocation
from tilehaul.config.sending import Sending
from tilehaul.errors import DataError, PlanError, RefusedError
from tilehaul.net.clock import SystemClock
from tilehaul.ports.source import WORLD_DEG, SourceInfo
from tilehaul.ports.wire import MIB, Request, Sender
from tilehaul.sources.wms import WMS_TIMEOUTS, Frames, MercatorFrames, WmsSource, meta_within
from tilehaul.sources.wms_degrees import DegreeFrames

CAPABILITIES_BYTES_MAX = 16 * MIB
# Of the CRS a layer is offered in, so many are named, each with so many characters at most.
CRS_SHOWN_MAX, CRS_CHARS_MAX = 10, 40
# Asked for in this order where the location names none; transparent pictures cannot be JPEG.
_LIKED = ("image/png", "image/jpeg", "image/webp")


async def fetch_capabilities(url: str, sender: Sender, sending: Sending, lane_class: str) -> bytes:
    """The document, once. Raises as the sender; PlanError when the service has none, or one too large."""
    asked = Request(
        url,
        headers=sending.headers,
        lane_class=lane_class,
        body_bytes_max=CAPABILITIES_BYTES_MAX,
        expect="any",
        timeouts=WMS_TIMEOUTS if sending.timeout_s is None else None,
    )
    try:
        response = await sender.send(asked)
    except RefusedError as error:
        if error.cause != "too_large":
            raise
        raise PlanError(
            f"{redact(url)}: its capabilities are larger than {CAPABILITIES_BYTES_MAX // MIB} MiB,"
            " and no more is read; ask the service for fewer layers (many have an address for each workspace)"
        ) from error
    if response.status != 200:
        raise PlanError(f"{redact(url)}: no capabilities there (HTTP {response.status})")
    return response.body


async def open_wms(place: WmsLocation, sender: Sender, sending: Sending) -> WmsSource:
    """Ask for the capabilities and choose what the location leaves open.

    Raises:
        PlanError: Unknown layers (with the nearest names), or a format, CRS, style, dimension or number of
            layers that the service does not offer.
        ConfigError: Pillow is missing and needed.
        TransferError, DataError: The capabilities did not come, or are none.
    """
    url = place.capabilities_url()
    body = await fetch_capabilities(url, sender, sending, "wms")
    try:
        said = parse_wms_capabilities(body)
    except DataError as error:
        raise DataError(
            f"{redact(url)}: {error}", cause=error.cause, url=redact(url), head=error.head
        ) from None
    layers = [layer_named(name, said) for name in place.layers]
    if said.layer_limit is not None and len(layers) > said.layer_limit:
        raise PlanError(f"{place.shown}: at most {said.layer_limit} layers are given at once")
    check_dimensions(place.extra, layers)
    address, extra = _get_map_address(place, said.get_map_url)
    media_type = _format(place, said)
    ask = MapRequest(
        address=address,
        version=place.version or (said.version if said.version in VERSIONS else "1.1.1"),
        crs=_crs(place, layers),
        layers=place.layers,
        styles=chosen_styles(place.styles, layers, place.extra),
        format=media_type,
        transparent=place.transparent,
        extra=extra,
    )
    side_px_max = min(SIDE_PX_MAX, said.width_max or SIDE_PX_MAX, said.height_max or SIDE_PX_MAX)
    in_degrees = ask.crs in DEGREE_NAMES
    if in_degrees:
        frames: Frames = DegreeFrames(place.meta, place.buffer_px, side_px_max)
    else:
        frames = MercatorFrames(*meta_within(place.meta, place.buffer_px, side_px_max))
    boxes = [layer.bounds_deg for layer in layers]
    west, south = (min(box[at] for box in boxes) for at in (0, 1))
    east, north = (max(box[at] for box in boxes) for at in (2, 3))
    info = SourceInfo(
        name=place.shown,
        identity=ask.identity,
        media_type=plain_media_type(media_type),
        bounds_deg=within_world((west, south, east, north)),
        attribution=next((layer.attribution for layer in layers if layer.attribution), ""),
        description=layers[0].title,
        note=f"its pictures are in {ask.crs} and are resampled to Web Mercator" if in_degrees else "",
    )
    return WmsSource(
        ask,
        sender,
        info,
        frames=frames,
        clock=SystemClock(),
        headers=sending.headers,
        timeouts=WMS_TIMEOUTS if sending.timeout_s is None else None,
    )


def within_world(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """The part of a box in degrees that Web Mercator has."""
    west, south, east, north = WORLD_DEG
    return max(box[0], west), max(box[1], south), min(box[2], east), min(box[3], north)


def layer_named(name: str, said: WmsCapabilities) -> WmsLayer:
    """Raises PlanError, with the nearest names there are."""
    for layer in said.layers:
        if layer.name == name:
            return layer
    raise PlanError(no_such("layer", name, [layer.name for layer in said.layers]))


def _crs(place: WmsLocation, layers: list[WmsLayer]) -> str:
    """Web Mercator where all layers have it; else degrees, whose pictures are resampled."""
    wanted = (place.crs,) if place.crs else MERCATOR_NAMES + DEGREE_NAMES
    for name in wanted:
        if all(name in layer.crs for layer in layers):
            return name
    needed = place.crs or f"{MERCATOR_NAMES[0]} or {DEGREE_NAMES[0]}"
    lacking = next((layer for layer in layers if not layer.crs.intersection(wanted)), None)
    if lacking is None:
        raise PlanError(f"the layers {', '.join(place.layers)[:120]} have no CRS in common that tiles need")
    there = [redact(name[:CRS_CHARS_MAX]) for name in sorted(lacking.crs)]
    more = f" and {len(there) - CRS_SHOWN_MAX} more" if len(there) > CRS_SHOWN_MAX else ""
    raise PlanError(
        f"layer {lacking.name} is not offered in {needed}, which tiles need; it is in"
        f" {', '.join(there[:CRS_SHOWN_MAX]) or 'none'}{more}"
    )


def _format(place: WmsLocation, said: WmsCapabilities) -> str:
    if place.format:
        if said.formats and place.format not in said.formats:
            raise PlanError(no_such("format", place.format, list(said.formats)))
        return place.format
    liked = _LIKED if place.transparent is not False else ("image/jpeg", *_LIKED)
    return next((name for name in liked if name in said.formats), _LIKED[0])


def _get_map_address(place: WmsLocation, declared: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Where GetMap is sent: as declared if it is the host that was typed, else what was typed.

    Many services declare an address behind their proxy; and a key must go to no other host.
    """
    if not declared:
        return place.address, place.extra
    here, there = urlsplit(place.address), service_address(declared, "the service declares for GetMap")
    if (here.scheme, here.netloc.rpartition("@")[2]) != (there.scheme, there.netloc):
        return place.address, place.extra
    typed = {name.lower() for name, _ in place.extra}
    more = [
        (name, value)
        for name, value in parse_qsl(there.query, keep_blank_values=True)
        if name.lower() not in typed and name.lower() not in ("service", "request", "version")
    ]
    address = f"{here.scheme}://{here.netloc}{there.path or '/'}"
    return address, (*more, *place.extra)
