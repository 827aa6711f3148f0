"""A location is one string: where tiles live."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tilehaul.errors import PlanError

Kind = Literal["xyz", "mbtiles", "directory"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# Locations of the design whose backends are not in this version.
_LATER = {
    "wms+http": "WMS",
    "wms+https": "WMS",
    "wmts+http": "WMTS",
    "wmts+https": "WMTS",
    "s3": "S3 buckets",
    "r2": "R2 buckets",
}
_LATER_SUFFIX = {".pmtiles": "PMTiles", ".gpkg": "GeoPackage"}


@dataclass(frozen=True, slots=True)
class Location:
    """`text` is a URL template for `xyz`, a file for `mbtiles`, a folder for `directory`."""

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
        raise PlanError("an empty location: name a URL template, an .mbtiles file or a directory")
    if _SCHEME.match(stripped):
        scheme = stripped.partition("://")[0].lower()
        if scheme in ("http", "https"):
            if "{" not in stripped and "%(" not in stripped:
                raise PlanError(
                    f"{_bare(stripped)} has no {{z}}/{{x}}/{{y}} in it: write where the numbers go,"
                    " e.g. https://host/tiles/{z}/{x}/{y}.png"
                )
            return Location("xyz", stripped)
        if scheme in _LATER:
            raise PlanError(f"{_LATER[scheme]} cannot be opened by this version yet: {scheme}://...")
        raise PlanError(f'unknown scheme "{scheme}": http, https, an .mbtiles file or a directory')
    suffix = Path(stripped).suffix.lower()
    if suffix == ".mbtiles":
        return Location("mbtiles", stripped)
    if suffix in _LATER_SUFFIX:
        raise PlanError(f"{_LATER_SUFFIX[suffix]} cannot be opened by this version yet: {stripped}")
    if suffix and Path(stripped).is_file():
        raise PlanError(f"{stripped} is a file of an unknown kind: .mbtiles files and directories are known")
    return Location("directory", stripped)


def _bare(url: str) -> str:
    """The address without user, query or fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
