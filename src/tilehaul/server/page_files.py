"""The files of the map page: ours and Leaflet's, read once, held in memory."""

import gzip
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from xstatic.pkg import leaflet

from tilehaul.jobs.serve_tile import etag_of

# Ours change with every release under the same name, so a browser asks each time (and gets 304).
OWN_CACHE_CONTROL = "no-cache"
LEAFLET_CACHE_CONTROL = "public, max-age=86400"

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
}
_OWN = (
    "index.html",
    "map.js",
    "tiles.js",
    "swipe.js",
    "view.js",
    "live.js",
    "charts.js",
    "jobs.js",
    "text.js",
    "style.css",
    "docs.css",
    "favicon.svg",
)
_LEAFLET = ("leaflet.js", "leaflet.css", "images/layers.png", "images/layers-2x.png")
# Smaller ones do not pay for the coding header.
_GZIP_BYTES_MIN = 1_000


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file. `zipped` is its gzip form, empty when that would not be smaller."""

    body: bytes
    zipped: bytes
    media_type: str
    cache_control: str
    etag: str


def read_page_files() -> dict[str, PageFile]:
    """Every file of the page by its name below `/static/`; Leaflet's begin with `leaflet/`."""
    page = files("tilehaul.server") / "page"
    found = {name: _read(page / name, OWN_CACHE_CONTROL) for name in _OWN}
    shelf = files(leaflet) / "data"
    for name in _LEAFLET:
        found[f"leaflet/{name}"] = _read(shelf.joinpath(*name.split("/")), LEAFLET_CACHE_CONTROL)
    return found


def made_file(body: bytes, media_type: str, cache_control: str = OWN_CACHE_CONTROL) -> PageFile:
    """A file of these bytes."""
    zipped = b""
    if media_type != "image/png" and len(body) >= _GZIP_BYTES_MIN:
        zipped = gzip.compress(body, 6, mtime=0)
    return PageFile(body, zipped, media_type, cache_control, etag_of(body))


def _read(path: Traversable, cache_control: str) -> PageFile:
    return made_file(path.read_bytes(), _MEDIA_TYPES[path.name.rpartition(".")[2]], cache_control)
