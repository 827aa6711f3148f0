"""Where the old cache's tiles are: `dataset/z/x/y.fmt` below an address or in a bucket."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path
from urllib.parse import urlsplit

from tilehaul.codec.safe_url import redact
from tilehaul.config.buckets import bucket_place
from tilehaul.errors import ConfigError, PlanError
from tilehaul.grid.tile_id import ZOOM_MAX, TileId
from tilehaul.net.addresses import host_port_of
from tilehaul.ports.wire import Signing

# Where a tile is below an address that says nothing of it.
BELOW = "{dataset}/{z}/{x}/{y}.{fmt}"
# What the old settings put between R2_PUBLIC_URL and the dataset.
FOLDER = "tiles"

# Names come from addresses that strangers ask for: none may leave its folder or add to a query.
_DATASET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_FORMAT = re.compile(r"[A-Za-z0-9]{1,8}\Z")
# No pyramid of pictures has more columns or rows.
_PLACE_MAX = 1 << 31
# A square of this many tiles to each side is as far as neighbours are looked for.
NEAR_MAX = 12
_WORD = re.compile(r"\{(dataset|z|x|y|fmt)\}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One tile of a dataset. `dataset` and `fmt` are safe in a URL and in a path."""

    dataset: str
    tile_id: TileId
    fmt: str

    @property
    def key(self) -> str:
        return f"{self.dataset}/{self.tile_id}.{self.fmt}"

    def below(self, folder: Path) -> Path:
        """Its file in a folder of the same order."""
        at = self.tile_id
        return folder / self.dataset / str(at.z) / str(at.x) / f"{at.y}.{self.fmt}"


def key_of(dataset: object, z: object, x: object, y: object, fmt: object) -> str:
    """What the answers and the cache call a tile, whatever it is."""
    return f"{dataset}/{z}/{x}/{y}.{fmt}"


def wanted_of(dataset: object, z: object, x: object, y: object, fmt: object) -> Wanted:
    """A tile, also beyond 2^z columns and rows: a picture's pyramid may be wider than the world's.

    Raises:
        PlanError: What can be no tile, or a name that might lead elsewhere.
    """
    name, ending = str(dataset), str(fmt)
    if _DATASET.match(name) is None:
        raise PlanError(f"{name[:100]!r} cannot be a dataset: letters, digits and _.-, not first a dot")
    if _FORMAT.match(ending) is None:
        raise PlanError(f"{ending[:20]!r} cannot be a format: up to 8 letters and digits, as in jpg")
    try:
        at = TileId(index(z), index(x), index(y))  # type: ignore[arg-type]
    except TypeError as error:
        raise PlanError(f"{z!r}/{x!r}/{y!r} is no tile: whole numbers are wanted") from error
    if not (0 <= at.z <= ZOOM_MAX and 0 <= at.x < _PLACE_MAX and 0 <= at.y < _PLACE_MAX):
        raise PlanError(f"{at} is no tile: zooms are 0 to {ZOOM_MAX}, columns and rows 0 or more")
    return Wanted(name, at, ending)


_REACH = range(-NEAR_MAX, NEAR_MAX + 1)
_STEPS = sorted(
    ((dx, dy) for dx in _REACH for dy in _REACH if dx or dy), key=lambda step: step[0] ** 2 + step[1] ** 2
)


def neighbours_of(centre: Wanted) -> Iterator[Wanted]:
    """The tiles around one, of its zoom, nearest first, as far as NEAR_MAX and the grid."""
    at = centre.tile_id
    # How far a pyramid goes that is wider than the world's, only its server knows.
    columns_end = max(1 << at.z, at.x + NEAR_MAX + 1 if at.x >> at.z else 0)
    rows_end = max(1 << at.z, at.y + NEAR_MAX + 1 if at.y >> at.z else 0)
    for dx, dy in _STEPS:
        near = TileId(at.z, at.x + dx, at.y + dy)
        if 0 <= near.x < columns_end and 0 <= near.y < rows_end:
            yield replace(centre, tile_id=near)


@dataclass(frozen=True, slots=True)
class TilePlace:
    """`template` has the words of BELOW in it; `signing`: how a private bucket is asked."""

    template: str
    signing: Signing | None = None

    def url_of(self, wanted: Wanted) -> str:
        at = wanted.tile_id
        return self.template.format(dataset=wanted.dataset, z=at.z, x=at.x, y=at.y, fmt=wanted.fmt)

    @property
    def sample(self) -> str:
        """An address of its host."""
        return _WORD.sub("0", self.template)

    def holds(self, url: str) -> bool:
        """Whether this address is asked for as the place's own are.

        In a private bucket: only what lies below the prefix, for nothing else is ours to sign for whoever
        named the address. Else whatever is on the same host, so that it has one lane.
        """
        if self.signing is not None:
            return url.startswith(self.template.partition("{")[0]) and ".." not in url and "%" not in url
        own, other = urlsplit(self.template), urlsplit(url)
        return (own.scheme.lower(), own.netloc.lower()) == (other.scheme.lower(), other.netloc.lower())


def place_of(location: str | None, environ: Mapping[str, str]) -> TilePlace | None:
    """The place that a location names; without one R2_PUBLIC_URL with `/tiles` behind it, if it is set.

    Raises:
        ConfigError: Neither an http(s) address nor a bucket; words in braces that mean nothing here; or see
            `bucket_place`.
        PlanError: No name of a bucket.
    """
    public = environ.get("R2_PUBLIC_URL", "").strip()
    text = location.strip() if location is not None else f"{public.rstrip('/')}/{FOLDER}" if public else ""
    if not text:
        return None
    scheme = text.partition("://")[0].lower()
    if scheme in ("r2", "s3"):
        bucket = bucket_place(text, environ)
        return TilePlace(bucket.url + BELOW, bucket.signing)
    if scheme not in ("http", "https"):
        raise ConfigError(
            f"{redact(text)}: https://host/tiles, r2://bucket/tiles or s3://bucket/tiles is wanted"
        )
    if "{" not in text and "?" not in text:
        text = f"{text.rstrip('/')}/{BELOW}"
    words = set(_WORD.findall(text))
    if not {"z", "x", "y"} <= words or re.search(r"[{}]", _WORD.sub("", text)):
        raise ConfigError(
            f"{redact(text)}: {{z}}, {{x}} and {{y}} are wanted, {{dataset}} and {{fmt}} may be there"
        )
    place = TilePlace(text)
    host_port_of(place.sample)
    return place
