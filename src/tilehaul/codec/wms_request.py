"""A WMS location, and the addresses that are asked because of it."""

import difflib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from tilehaul.codec.safe_url import is_secret_name, redact
from tilehaul.errors import ConfigError

VERSIONS = ("1.1.1", "1.3.0")
# One reference system under five names; the first is asked for where the server has it.
MERCATOR_NAMES = ("EPSG:3857", "EPSG:900913", "EPSG:3785", "EPSG:102100", "EPSG:102113")
# Longitude and latitude. CRS:84 is always written east first, EPSG:4326 by the version's rule.
DEGREE_NAMES = ("EPSG:4326", "CRS:84")
OWN_PREFIX = "tilehaul."
META_DEFAULT = 4
# 16 x 256 px is the largest picture that is verified (`verify.SIDE_PX_MAX`).
META_MAX = 16
BUFFER_PX_DEFAULT = 32
BUFFER_PX_MAX = 256

_SET_BY_US = frozenset({"service", "request", "bbox", "width", "height", "srs", "crs"})
_EXCEPTIONS = {"1.1.1": "application/vnd.ogc.se_xml", "1.3.0": "XML"}
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class WmsLocation:
    """What the operator wrote. Empty fields are for the capabilities to fill.

    `address` is the service without its query, `extra` the query's other parameters as they were written
    (TIME, `dim_...`, vendor ones, keys). `meta` tiles a side are asked for at once, with `buffer_px` around.
    """

    address: str
    layers: tuple[str, ...]
    styles: str = ""
    version: str = ""
    crs: str = ""
    format: str = ""
    transparent: bool | None = None
    extra: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    meta: int = META_DEFAULT
    buffer_px: int = BUFFER_PX_DEFAULT

    def capabilities_url(self) -> str:
        """Where the service says what it has."""
        asked = {"SERVICE": "WMS", "REQUEST": "GetCapabilities", "VERSION": self.version or "1.3.0"}
        return with_query(self.address, self.extra, asked)

    @property
    def shown(self) -> str:
        """For people: service and layers, secrets masked."""
        return redact(with_query(self.address, self.extra, {"LAYERS": ",".join(self.layers)}))


@dataclass(frozen=True, slots=True)
class MapRequest:
    """All of a GetMap but the place: `url` says it for a box."""

    address: str
    version: str
    crs: str
    layers: tuple[str, ...]
    styles: str
    format: str
    transparent: bool | None = None
    extra: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def url(self, box: Box, width_px: int, height_px: int) -> str:
        """The address of a picture of `box`, (west, south, east, north) in units of the CRS.

        1.3.0 writes EPSG:4326 with latitude first; 1.1.1 and every other CRS here east first.
        """
        west, south, east, north = box
        turned = self.version == "1.3.0" and self.crs == "EPSG:4326"
        numbers = (south, west, north, east) if turned else box
        asked = {
            "SERVICE": "WMS",
            "VERSION": self.version,
            "REQUEST": "GetMap",
            "LAYERS": ",".join(self.layers),
            "STYLES": self.styles,
            "CRS" if self.version == "1.3.0" else "SRS": self.crs,
            "BBOX": ",".join(repr(float(number)) for number in numbers),
            "WIDTH": str(width_px),
            "HEIGHT": str(height_px),
            "FORMAT": self.format,
        }
        if self.transparent is not None:
            asked["TRANSPARENT"] = "TRUE" if self.transparent else "FALSE"
        asked["EXCEPTIONS"] = _EXCEPTIONS[self.version]
        return with_query(self.address, self.extra, asked)

    @property
    def identity(self) -> str:
        """16 hexadecimal digits: the same when a key changes, others when anything else does."""
        told = [f"{name.lower()}={value}" for name, value in self.extra if not is_secret_name(name)]
        parts = (
            redact(self.address), self.version, self.crs, ",".join(self.layers), self.styles, self.format,
            str(self.transparent), *sorted(told),
        )  # fmt: skip
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def parse_wms_location(text: str) -> WmsLocation:
    """Read `wms+https://host/path?layers=a,b&...`.

    Parameters of ours begin with `tilehaul.`; all that is not known goes to the service as it is.

    Raises:
        ConfigError: No layers, an unknown parameter of ours (with the nearest), a version, CRS, number or
            EXCEPTIONS that cannot be.
    """
    address, pairs = split_location(text, "wms+")
    own, asked, extra = sorted_parameters(
        pairs,
        known=("layers", "styles", "version", "crs", "srs", "format", "transparent", "exceptions"),
        own_known=("meta", "buffer"),
    )
    shown = redact(text)
    layers = tuple(name.strip() for name in asked.get("layers", "").split(",") if name.strip())
    if not layers:
        raise ConfigError(f"{shown} names no layers: write ?layers=NAME or layers=A,B")
    version = asked.get("version", "")
    if version and version not in VERSIONS:
        raise ConfigError(f"version={version}: WMS {' and '.join(VERSIONS)} are spoken")
    crs = (asked.get("crs") or asked.get("srs", "")).upper()
    if crs and crs not in MERCATOR_NAMES + DEGREE_NAMES:
        raise ConfigError(
            f"crs={crs}: tiles are Web Mercator, and only pictures in degrees are resampled: leave it out or"
            f" write one of {', '.join(MERCATOR_NAMES + DEGREE_NAMES)}"
        )
    if asked.get("exceptions", "").upper().endswith(("BLANK", "INIMAGE")):
        raise ConfigError("exceptions=BLANK or INIMAGE would keep errors as pictures: leave it out")
    transparent = asked.get("transparent", "").lower()
    if transparent not in ("", "true", "false"):
        raise ConfigError(f"transparent={transparent}: true or false is wanted")
    meta = _number(own, "meta", META_DEFAULT, META_MAX)
    if meta < 1 or meta & (meta - 1):
        raise ConfigError(f"{OWN_PREFIX}meta={meta}: 1, 2, 4, 8 or 16 tiles a side are wanted")
    return WmsLocation(
        address=address,
        layers=layers,
        styles=asked.get("styles", ""),
        version=version,
        crs=crs,
        format=asked.get("format", ""),
        transparent=transparent == "true" if transparent else None,
        extra=tuple((name, value) for name, value in extra if name.lower() not in _SET_BY_US),
        meta=meta,
        buffer_px=_number(own, "buffer", BUFFER_PX_DEFAULT, BUFFER_PX_MAX),
    )


def split_location(text: str, prefix: str) -> tuple[str, list[tuple[str, str]]]:
    """The http address without its query, and the query's parameters in order."""
    parts = urlsplit(text[len(prefix) :])
    if parts.fragment:
        raise ConfigError(f"{redact(text)}: a # has no meaning there; write %23")
    return urlunsplit((parts.scheme.lower(), parts.netloc, parts.path or "/", "", "")), parse_qsl(
        parts.query, keep_blank_values=True
    )


def sorted_parameters(
    pairs: Iterable[tuple[str, str]], *, known: Iterable[str], own_known: Iterable[str]
) -> tuple[dict[str, str], dict[str, str], list[tuple[str, str]]]:
    """Ours without their prefix, the protocol's in lower case, and the rest. Raises ConfigError."""
    own: dict[str, str] = {}
    asked: dict[str, str] = {}
    extra: list[tuple[str, str]] = []
    names, own_names = set(known), [OWN_PREFIX + name for name in own_known]
    for name, value in pairs:
        lower = name.lower()
        if lower.startswith(OWN_PREFIX):
            if lower not in own_names:
                near = difflib.get_close_matches(lower, own_names, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(own_names) or 'none'}"
                raise ConfigError(f"there is no parameter {name}; {hint}")
            own[lower.removeprefix(OWN_PREFIX)] = value
        elif lower in names:
            asked[lower] = value
        else:
            extra.append((name, value))
    return own, asked, extra


def with_query(address: str, extra: Iterable[tuple[str, str]], asked: Mapping[str, str]) -> str:
    """The address with the parameters of both; `asked` wins over a name in `extra`, whatever its case."""
    taken = {name.lower() for name in asked}
    pairs = [(name, value) for name, value in extra if name.lower() not in taken]
    return f"{address}?{urlencode([*pairs, *asked.items()], quote_via=quote, safe='/:,')}"


def _number(own: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = own.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > most:
        raise ConfigError(f"{OWN_PREFIX}{name}={text[:20]}: a whole number up to {most} is wanted")
    return int(text)
