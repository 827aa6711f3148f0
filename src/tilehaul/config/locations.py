"""A location is one string: where tiles live."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tilehaul.codec.safe_url import redact
from tilehaul.errors import PlanError

Kind = Literal["xyz", "mbtiles", "pmtiles", "directory", "bucket", "wms", "wmts"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SERVICES: dict[str, Kind] = {
    "wms+http": "wms",
    "wms+https": "wms",
    "wmts+http": "wmts",
    "wmts+https": "wmts",
}
_SUFFIXES = (".mbtiles", ".pmtiles", ".gpkg")
_LATER_SUFFIX = {".gpkg": "GeoPackage"}


@dataclass(frozen=True, slots=True)
class Location:
    """`text` is a URL template for `xyz`, a file for `mbtiles` and `pmtiles`, a folder for `directory`, an
    address `s3://bucket/prefix` or `r2://...` for `bucket`,
    `wms+https://...` and `wmts+https://...` with the service's query for `wms` and `wmts`.
    """

    kind: Kind
    text: str

    @property
    def path(self) -> Path:
        return Path(self.text)


def parse_location(text: str) -> Location:
    """Say what a location is, without looking whether it exists.

    Raises:
        PlanError: Nothing that tilehaul knows, or knows but cannot open yet.
    """
    stripped = text.strip()
    if not stripped:
        raise PlanError("an empty location: name a URL template, an .mbtiles or .pmtiles file or a directory")
    if _SCHEME.match(stripped):
        _check_authority(stripped)
        scheme = stripped.partition("://")[0].lower()
        if scheme in ("http", "https"):
            if "{" not in stripped and "%(" not in stripped:
                raise PlanError(
                    f"{redact(stripped)} has no {{z}}/{{x}}/{{y}} in it: write where the numbers go,"
                    " e.g. https://host/tiles/{z}/{x}/{y}.png"
                )
            return Location("xyz", stripped)
        if scheme in ("s3", "r2"):
            return Location("bucket", stripped)
        if scheme in _SERVICES:
            return Location(_SERVICES[scheme], stripped)
        raise PlanError(
            f'unknown scheme "{scheme}": http, https, wms+https, wmts+https, s3, r2, an .mbtiles'
            " or .pmtiles file or a directory"
        )
    suffix = Path(stripped).suffix.lower()
    if suffix == ".mbtiles":
        return Location("mbtiles", stripped)
    if suffix == ".pmtiles":
        return Location("pmtiles", stripped)
    if suffix in _LATER_SUFFIX:
        raise PlanError(f"{_LATER_SUFFIX[suffix]} cannot be opened by this version yet: {stripped}")
    if suffix and Path(stripped).is_file():
        raise PlanError(
            f"{stripped} is a file of an unknown kind: .mbtiles, .pmtiles and directories are known"
        )
    near = get_close_matches(suffix, _SUFFIXES, n=1) if suffix else []
    if near and not Path(stripped).exists():
        raise PlanError(f'"{suffix}" is no kind of archive: did you mean {near[0]}? A directory may end in /')
    return Location("directory", stripped)


def _check_authority(url: str) -> None:
    """Raise PlanError for a host or port that no URL can have."""
    try:
        # `{s}` and `{switch:a,b}` stand where a host's letters will be.
        parts = urlsplit(re.sub(r"\{[^}]*\}", "0", url))
        port = parts.port
    except ValueError as error:
        raise PlanError(f"{redact(url)} has no valid host and port") from error
    if not parts.hostname or port == 0:
        raise PlanError(f"{redact(url)} names no host")
