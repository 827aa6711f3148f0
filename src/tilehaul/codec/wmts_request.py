"""A WMTS location, and which tile of which matrix is asked for because of it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from tilehaul.codec.safe_url import redact
from tilehaul.codec.wms_request import sorted_parameters, split_location, with_query
from tilehaul.codec.wmts_capabilities import Limits, MatrixSet
from tilehaul.errors import ConfigError

ENCODINGS = ("rest", "kvp")
WORLD_M = 2.0 * 20037508.342789244
# OGC's standardized pixel (WMTS 1.0.0, 6.1).
PIXEL_M = 0.00028
# Declared scales are rounded; a zoom's are a factor of two apart.
ZOOM_ERROR = 0.001
# How far a matrix's corner may lie beside a tile's, in tiles: a pixel.
CORNER_ERROR = 1 / 256
ZOOM_MAX = 30
# Tiles that are no zoom's, left out before numbers become too large or too small to reckon with.
SIDE_M_MIN, SIDE_M_MAX = WORLD_M / (2 << ZOOM_MAX), 2 * WORLD_M

_HOLE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class WmtsLocation:
    """What the operator wrote; empty fields are for the capabilities to fill. See `WmsLocation`."""

    address: str
    layer: str
    style: str = ""
    matrix_set: str = ""
    format: str = ""
    encoding: str = ""
    extra: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def capabilities_url(self) -> str:
        """A document ending in `.xml` is asked for as it is, everything else with GetCapabilities."""
        asked = {"SERVICE": "WMTS", "REQUEST": "GetCapabilities", "VERSION": "1.0.0"}
        if self.address.lower().endswith(".xml"):
            return with_query(self.address, self.extra, {}).removesuffix("?")
        return with_query(self.address, self.extra, asked)

    @property
    def shown(self) -> str:
        """For people: service and layer, secrets masked."""
        return redact(with_query(self.address, self.extra, {"LAYER": self.layer}))


def parse_wmts_location(text: str) -> WmtsLocation:
    """Read `wmts+https://host/WMTSCapabilities.xml?layer=NAME&...`. Raises ConfigError."""
    address, pairs = split_location(text, "wmts+")
    own, asked, extra = sorted_parameters(
        pairs,
        known=("layer", "style", "tilematrixset", "format", "service", "request", "version"),
        own_known=("encoding",),
    )
    if not asked.get("layer"):
        raise ConfigError(f"{redact(text)} names no layer: write ?layer=NAME")
    encoding = own.get("encoding", "")
    if encoding not in ("", *ENCODINGS):
        raise ConfigError(f"tilehaul.encoding={encoding[:20]}: rest or kvp is wanted")
    return WmtsLocation(
        address=address,
        layer=asked["layer"],
        style=asked.get("style", ""),
        matrix_set=asked.get("tilematrixset", ""),
        format=asked.get("format", ""),
        encoding=encoding,
        extra=tuple(extra),
    )


@dataclass(frozen=True, slots=True)
class ZoomMatrix:
    """The matrix of one zoom. Tile x, y is column x - `column_0`, row y - `row_0` of it, within `limits`."""

    identifier: str
    column_0: int
    row_0: int
    limits: Limits

    def has(self, x: int, y: int) -> bool:
        first_row, last_row, first_column, last_column = self.limits
        return first_row <= y - self.row_0 <= last_row and first_column <= x - self.column_0 <= last_column


def zoom_matrices(matrix_set: MatrixSet, limits: Mapping[str, Limits]) -> dict[int, ZoomMatrix]:
    """The matrices that are zooms of the XYZ grid, by zoom; others are left out.

    A matrix is one when its tiles are square, as large as those of the zoom, and lie on them: whatever its
    identifier says. Its first tile may be another than the world's.
    """
    found: dict[int, ZoomMatrix] = {}
    for matrix in matrix_set.matrices:
        side_m = matrix.scale_denominator * PIXEL_M * matrix.tile_px[0]
        if matrix.tile_px[0] != matrix.tile_px[1] or not SIDE_M_MIN <= side_m <= SIDE_M_MAX:
            continue
        if max(abs(matrix.left), abs(matrix.top)) > WORLD_M:
            continue
        zoom = math.log2(WORLD_M / side_m)
        z = round(zoom)
        if abs(zoom - z) > ZOOM_ERROR or not 0 <= z <= ZOOM_MAX:
            continue
        exact_m = WORLD_M / (1 << z)
        column = (matrix.left + WORLD_M / 2) / exact_m
        row = (WORLD_M / 2 - matrix.top) / exact_m
        if max(abs(column - round(column)), abs(row - round(row))) > CORNER_ERROR:
            continue
        width, height = matrix.size
        whole = (0, height - 1, 0, width - 1)
        found[z] = ZoomMatrix(
            matrix.identifier, round(column), round(row), limits.get(matrix.identifier, whole)
        )
    return found


def filled_template(template: str, values: Mapping[str, str]) -> str:
    """A REST template with `values` (names in lower case) in its holes; `{TileMatrix}`, `{TileRow}` and
    `{TileCol}` stay, spelled so. Raises ConfigError for a hole that nothing fills.
    """
    places = {name.lower(): name for name in ("TileMatrix", "TileRow", "TileCol")}

    def fill(found: re.Match[str]) -> str:
        name = found[1].lower()
        if name in places:
            return "{" + places[name] + "}"
        if name not in values:
            raise ConfigError(
                f"the service's address wants {{{found[1][:40]}}}: add {found[1][:40]}=... to the location"
            )
        return quote(values[name], safe=":,")

    filled = _HOLE.sub(fill, template)
    lacking = [name for name in places.values() if "{" + name + "}" not in filled]
    if lacking:
        raise ConfigError(f"the service's address {redact(template)} has no {{{lacking[0]}}} in it")
    return filled
