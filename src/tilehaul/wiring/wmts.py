"""A WMTS location and what the service says of itself become a source."""

import hashlib
from urllib.parse import quote

from tilehaul.codec.safe_url import is_secret_name, redact
from tilehaul.codec.service_address import service_address
from tilehaul.codec.sniff import plain_media_type
from tilehaul.codec.url_template import Address, UrlTemplate
from tilehaul.codec.wms_choices import no_such, shown_name
from tilehaul.codec.wms_request import MERCATOR_NAMES, with_query
from tilehaul.codec.wmts_capabilities import MatrixSet, WmtsCapabilities, WmtsLayer, parse_wmts_capabilities
from tilehaul.codec.wmts_request import WmtsLocation, filled_template, zoom_matrices
from tilehaul.config.sending import Sending
from tilehaul.errors import DataError, PlanError
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.wire import Sender
from tilehaul.sources.wmts import WmtsSource
from tilehaul.sources.xyz import XyzSource
from tilehaul.wiring.wms import fetch_capabilities, within_world

_LIKED = ("image/png", "image/jpeg", "image/webp")


async def open_wmts(
    place: WmtsLocation, asking: Sender, sending: Sending, *, tiles: Sender | None = None
) -> WmtsSource:
    """Ask for the capabilities through `asking`; tiles come through `tiles`, or `asking` too.

    Raises:
        PlanError: The service has no such layer, style, format or matrix set, or none in Web Mercator.
        ConfigError: Its address wants a dimension that neither it nor the location gives.
        TransferError, DataError: The capabilities did not come, or are none.
    """
    url = place.capabilities_url()
    body = await fetch_capabilities(url, asking, sending, "tile")
    try:
        said = parse_wmts_capabilities(body)
    except DataError as error:
        raise DataError(
            f"{redact(url)}: {error}", cause=error.cause, url=redact(url), head=error.head
        ) from None
    layer = next((each for each in said.layers if each.name == place.layer), None)
    if layer is None:
        raise PlanError(no_such("layer", place.layer, [each.name for each in said.layers]))
    matrix_set = _matrix_set(place, said, layer)
    matrices = zoom_matrices(matrix_set, layer.sets[matrix_set.name])
    if not matrices:
        raise PlanError(f"no matrix of {shown_name(matrix_set.name)} lies on the grid of Web Mercator tiles")
    media_type, pattern = _pattern(place, said, layer, matrix_set.name)

    def url_of(tile_id: Address) -> str:
        matrix = matrices[tile_id.z]
        return (
            pattern.replace("{TileMatrix}", quote(matrix.identifier, safe=":,"))
            .replace("{TileRow}", str(tile_id.y - matrix.row_0))
            .replace("{TileCol}", str(tile_id.x - matrix.column_0))
        )

    told = sorted(f"{name.lower()}={value}" for name, value in place.extra if not is_secret_name(name))
    identity = "\n".join((redact(pattern), matrix_set.name, *told))
    template = UrlTemplate(
        shown=redact(pattern),
        identity=hashlib.sha256(identity.encode()).hexdigest()[:16],
        media_type=plain_media_type(media_type),
        url=url_of,
        samples=(pattern,),
    )
    info = SourceInfo(
        name=place.shown,
        identity=template.identity,
        media_type=template.media_type,
        zoom_min=min(matrices),
        zoom_max=max(matrices),
        zooms=tuple(sorted(matrices)),
        bounds_deg=within_world(layer.bounds_deg),
        description=layer.title,
    )
    # A key in a header was typed for the host that was typed.
    headers = sending.headers if _host(pattern) == _host(place.address) else ()
    return WmtsSource(XyzSource(template, tiles or asking, info, headers), matrices)


def _host(url: str) -> tuple[str, str]:
    parts = service_address(url, "the service declares for its tiles")
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _matrix_set(place: WmtsLocation, said: WmtsCapabilities, layer: WmtsLayer) -> MatrixSet:
    linked = [each for each in said.matrix_sets if each.name in layer.sets]
    if place.matrix_set:
        for each in linked:
            if each.name == place.matrix_set:
                return each
        raise PlanError(no_such("matrix set", place.matrix_set, [each.name for each in linked]))
    for crs in MERCATOR_NAMES:
        for each in linked:
            if each.crs == crs:
                return each
    there = ", ".join(f"{shown_name(each.name)} ({shown_name(each.crs)})" for each in linked) or "none"
    raise PlanError(f"layer {layer.name} has no matrix set in Web Mercator; it has {there}")


def _pattern(place: WmtsLocation, said: WmtsCapabilities, layer: WmtsLayer, set_name: str) -> tuple[str, str]:
    """The format, and an address with {TileMatrix}, {TileRow} and {TileCol} left open."""
    style = place.style or next(iter(layer.styles), "")
    if place.style and layer.styles and place.style not in layer.styles:
        raise PlanError(no_such("style", place.style, list(layer.styles)))
    offered = layer.formats or tuple(form for form, _ in layer.templates)
    form = place.format or next((name for name in _LIKED if name in offered), next(iter(offered), _LIKED[0]))
    if offered and form not in offered:
        raise PlanError(no_such("format", form, list(offered)))
    typed = {name.lower(): value for name, value in place.extra}
    axes = {each.name: typed.get(each.name.lower(), each.default) for each in layer.dimensions}
    rest = [template for each, template in layer.templates if each == form]
    extra = [(name, value) for name, value in place.extra if name.lower() not in map(str.lower, axes)]
    if rest and place.encoding != "kvp":
        values = {name.lower(): value for name, value in axes.items() if value}
        values |= {"tilematrixset": set_name, "style": style, "layer": layer.name}
        filled = filled_template(rest[0], values)
        if extra and _host(filled) == _host(place.address):
            more = with_query("", extra, {}).removeprefix("?")
            filled += ("&" if "?" in filled else "?") + more
        return form, filled
    if place.encoding == "rest" or not (said.kvp_url or not place.address.lower().endswith(".xml")):
        raise PlanError(f"{place.shown}: the service offers no {place.encoding or 'address'} for {form}")
    same = bool(said.kvp_url) and _host(said.kvp_url) == _host(place.address)
    asked = {
        "SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0", "LAYER": layer.name, "STYLE": style,
        "TILEMATRIXSET": set_name, "FORMAT": form, **{name: value for name, value in axes.items() if value},
    }  # fmt: skip
    address = said.kvp_url.partition("?")[0] if same else place.address
    return form, with_query(address, extra, asked) + (
        "&TILEMATRIX={TileMatrix}&TILEROW={TileRow}&TILECOL={TileCol}"
    )
