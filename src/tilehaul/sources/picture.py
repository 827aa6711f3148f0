"""A picture as a source: its tiles at every zoom, made in one pass over it."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import xxhash

from tilehaul.errors import PlanError
from tilehaul.grid.pyramid import Pyramid
from tilehaul.grid.tile_id import TileId
from tilehaul.pixels.encode import written
from tilehaul.ports.source import SourceInfo
from tilehaul.ports.tile import NoTile, Tile
from tilehaul.sources.climb import Climb, Strip, filled_up
from tilehaul.sources.picture_file import PIXELS_IN_MEMORY_MAX, PictureFile, Rows
from tilehaul.sources.reencoded import IDENTITY_CHARS, MEDIA_TYPES, Encoding


@dataclass(frozen=True, slots=True)
class Cut:
    """A picture and how it is cut. `fingerprint` follows from every byte of the file. `padded`: tiles at the
    right and lower edge are filled up to full size, white or transparent.

    Raises PlanError when a row of its tiles is too wide for memory.
    """

    picture: PictureFile
    pyramid: Pyramid
    encoding: Encoding
    fingerprint: str
    padded: bool = False

    def __post_init__(self) -> None:
        widest = PIXELS_IN_MEMORY_MAX // self.pyramid.tile_size
        if self.picture.width > widest:
            raise PlanError(f"{self.picture.path} is {self.picture.width} px wide: {widest} are the most")

    @property
    def info(self) -> SourceInfo:
        """The same file, cut alike, is the same source wherever it lies."""
        encoding, pyramid = self.encoding, self.pyramid
        cut = f"{encoding}, tiles of {pyramid.tile_size} px" + (", padded" if self.padded else "")
        named = f"{self.fingerprint} {cut}"
        return SourceInfo(
            name=f"{self.picture.path.name} ({pyramid.width} x {pyramid.height} px, "
            f"fingerprint {self.fingerprint[:12]}, {cut})",
            identity=xxhash.xxh3_128_hexdigest(named.encode())[:IDENTITY_CHARS],
            media_type=MEDIA_TYPES[encoding.format_name],
            zoom_max=pyramid.zoom_max,
            bounds_deg=pyramid.bounds_deg,
            pyramid=pyramid,
        )


class PictureSource:
    """`TileSource` over a picture. Asked in the order of `Pyramid.walk` it decodes the picture once and keeps
    two rows of tiles at full resolution at most; asked for what has gone by, it begins again. `passes` counts
    how often it began.

    `get` raises StorageError when the picture cannot be decoded: then none of the rest can, which ends a job.
    """

    def __init__(self, cut: Cut) -> None:
        self.info = cut.info
        self.passes = 0
        self._cut = cut
        self._turn = asyncio.Lock()
        # One thread for all passes: what it frees it uses again, where several would each keep some. It also
        # ends what it was doing when who asked has been cancelled, before it does anything else.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tilehaul-picture")
        self._strips: Iterator[dict[tuple[int, int], Strip]] | None = None
        self._held: dict[tuple[int, int], Strip] = {}
        self._row = -1

    async def get(self, tile_id: TileId) -> Tile | NoTile:
        pyramid = self._cut.pyramid
        if tile_id not in pyramid:
            return NoTile(tile_id, "out_of_range")
        key = tile_id.z, tile_id.y
        async with self._turn:
            if key not in self._held:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._pass_to, key)
            left, top, right, lower = pyramid.box(tile_id)
            _, row, strip = self._held[key]
            above = row * pyramid.tile_size
            piece = strip.crop((left, top - above, right, lower - above))
        if self._cut.padded:
            piece = filled_up(piece, pyramid.tile_size)
        encoding = self._cut.encoding
        body = await asyncio.to_thread(written, piece, encoding.format_name, encoding.quality)
        return Tile(tile_id, body, self.info.media_type)

    def close(self) -> None:
        """Let go of the picture, once what is under way has ended. Not to be asked any more then."""
        self._thread.shutdown()
        self._strips, self._held = None, {}

    def _pass_to(self, key: tuple[int, int]) -> None:
        """Go on until the row of tiles (zoom, row) is held. StorageError, ConfigError."""
        if self._strips is None or self._is_past(key):
            self._strips = None
            self._held = {}
            self._strips = self._begin()
        while key not in self._held:
            try:
                self._held = {}
                self._held = next(self._strips)
            except BaseException:
                # Whoever asks next begins anew, and is told the same.
                self._strips = None
                raise

    def _is_past(self, key: tuple[int, int]) -> bool:
        """Whether a row of tiles was complete with a row at full resolution that has gone by."""
        pyramid, (zoom, row) = self._cut.pyramid, key
        while zoom < pyramid.zoom_max:
            zoom += 1
            row = min(2 * row + 1, pyramid.rows(zoom) - 1)
        return row <= self._row

    def _begin(self) -> Iterator[dict[tuple[int, int], Strip]]:
        self.passes += 1
        self._row = -1
        return self._all_strips(self._cut.picture.rows())

    def _all_strips(self, rows: Rows) -> Iterator[dict[tuple[int, int], Strip]]:
        """For each row of tiles at full resolution, that row and those of lower zooms that it completes."""
        pyramid = self._cut.pyramid
        climb = Climb(pyramid)
        for row in range(pyramid.rows(pyramid.zoom_max)):
            top = row * pyramid.tile_size
            strip = rows(top, min(top + pyramid.tile_size, pyramid.height))
            self._row = row
            yield {(strip[0], strip[1]): strip for strip in climb.add(row, strip)}
