"""A source whose tiles come in another format, or zipped otherwise."""

import asyncio
import gzip
import hashlib
from dataclasses import dataclass, replace

from tilehaul.codec.coding import decode
from tilehaul.codec.sniff import GZIP_MAGIC, JPEG, PNG, VECTOR_TILE, WEBP
from tilehaul.codec.verify import VECTOR_BYTES_MAX
from tilehaul.errors import ConfigError, DataError, PlanError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import SourceInfo, TileSource
from tilehaul.ports.tile import NoTile, Tile

MEDIA_TYPES = {"png": PNG, "jpg": JPEG, "webp": WEBP}
COMPRESSIONS = ("gzip", "none")
# As many hex digits as other identities have.
IDENTITY_CHARS = 32


@dataclass(frozen=True, slots=True)
class Encoding:
    """What tiles are to become.

    Args:
        format_name: `png`, `jpg` or `webp`; empty: pictures stay as they are.
        quality: 1..100, of JPEG and WebP.
        compression: `gzip` or `none` for vector tiles; empty: they stay as they are.

    Raises ConfigError for anything else, and for both: a source has pictures or vector tiles.
    """

    format_name: str = ""
    quality: int = 80
    compression: str = ""

    def __post_init__(self) -> None:
        if self.format_name and self.format_name not in MEDIA_TYPES:
            raise ConfigError(f"format {self.format_name!r}: png, jpg and webp are known")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"quality {self.quality} is beyond 1..100")
        if self.compression and self.compression not in COMPRESSIONS:
            raise ConfigError(f"compression {self.compression!r}: gzip and none are known")
        if self.format_name and self.compression:
            raise ConfigError("--format is for pictures, --compression for vector tiles: give one")

    def check_kind(self, media_type: str, name: str) -> None:
        """Raise PlanError when the tiles of `name`, of that type as far as is known, cannot become this."""
        if self.compression and media_type not in ("", VECTOR_TILE):
            raise PlanError(
                f"--compression is for vector tiles, and {name} has {media_type}: leave it out, or --format"
            )
        if self.format_name and media_type == VECTOR_TILE:
            raise PlanError(
                f"--format is for pictures, and {name} has vector tiles: leave it out, or --compression"
            )

    def __str__(self) -> str:
        words = []
        if self.format_name:
            words.append(
                f"as {self.format_name}" + (f" q{self.quality}" if self.format_name != "png" else "")
            )
        if self.compression:
            words.append(f"vector tiles {'zipped' if self.compression == 'gzip' else 'not zipped'}")
        return ", ".join(words)


class ReencodedSource:
    """`TileSource` over another. A picture that has the format already keeps its bytes.

    It is another source than the one inside: a store of one format refuses tiles of another. Encoding runs
    on threads. Raises ConfigError when Pillow is needed and not there.
    """

    def __init__(self, inner: TileSource, encoding: Encoding) -> None:
        if encoding.format_name:
            from tilehaul.pixels.encode import encoded  # noqa: PLC0415  Pillow is an extra

            self._encoded = encoded
        self._inner = inner
        self._encoding = encoding

    @property
    def info(self) -> SourceInfo:
        info, encoding = self._inner.info, self._encoding
        identity = hashlib.sha256(f"{info.identity} {encoding}".encode()).hexdigest()[:IDENTITY_CHARS]
        kind = info.media_type
        if encoding.format_name and kind != VECTOR_TILE:
            kind = MEDIA_TYPES[encoding.format_name]
        return replace(info, name=f"{info.name} {encoding}", identity=identity, media_type=kind)

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        """As the source inside; DataError also for a picture that cannot be decoded (`corrupt`), for a vector
        tile that should become one, and for a picture that should be zipped or not (`mistyped`).
        """
        answer = await self._inner.get(tile_id)
        if isinstance(answer, NoTile):
            return answer
        if answer.media_type == VECTOR_TILE:
            return await self._zipped(answer)
        if self._encoding.compression:
            raise DataError(
                f"tile {tile_id} is {answer.media_type}, and --compression is for vector tiles",
                cause="mistyped",
            )
        wanted = MEDIA_TYPES.get(self._encoding.format_name, answer.media_type)
        if answer.media_type == wanted:
            return answer
        encoding = self._encoding
        body = await asyncio.to_thread(self._encoded, answer.body, encoding.format_name, encoding.quality)
        return replace(answer, body=body, media_type=wanted)

    async def _zipped(self, tile: Tile) -> Tile:
        encoding = self._encoding
        if encoding.format_name:
            raise DataError(
                f"tile {tile.tile_id} is a vector tile and cannot become {encoding.format_name}",
                cause="mistyped",
            )
        is_zipped = tile.body.startswith(GZIP_MAGIC)
        if not encoding.compression or is_zipped == (encoding.compression == "gzip"):
            return tile
        if is_zipped:
            body = await asyncio.to_thread(decode, tile.body, "gzip", VECTOR_BYTES_MAX)
        else:
            body = await asyncio.to_thread(gzip.compress, tile.body, 9, mtime=0)
        return replace(tile, body=body)
