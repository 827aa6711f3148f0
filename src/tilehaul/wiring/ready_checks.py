"""What a service needs to be of use, as conditions for `/health/ready`."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from tilehaul.config.locations import NEAR_KINDS, parse_location
from tilehaul.errors import DataError, TilehaulError
from tilehaul.grid.tile_id import TileId
from tilehaul.ports.store import TileArchive
from tilehaul.sources.stored import StoredSource
from tilehaul.wiring.caches import Caches
from tilehaul.wiring.opened import OpenedSource

Check = Callable[[], Awaitable[bool]]

# In every archive that has anything, or at least looked up like every other.
_PROBE = TileId(0, 0, 0)


def archive_check(locations: Sequence[str], sources: Sequence[OpenedSource]) -> Check | None:
    """Whether a layer's archives can be read: one of several is enough.

    None where there is nothing to ask: a source of the layer is elsewhere, and that is no matter of disks.
    """
    archives: list[TileArchive] = []
    for location, opened in zip(locations, sources, strict=True):
        if parse_location(location).kind not in NEAR_KINDS or not isinstance(opened.source, StoredSource):
            return None
        archives.append(opened.source.archive)

    async def check() -> bool:
        return any([await _readable(archive) for archive in archives])

    return check


async def _readable(archive: TileArchive) -> bool:
    try:
        await archive.get(_PROBE)
    except DataError as error:
        return error.cause != "corrupt_archive"
    except TilehaulError:
        return False
    return True


def cache_check(caches: Caches) -> Check | None:
    """Whether the disk cache takes tiles; None without one."""
    return None if caches.disk is None else caches.disk.usable


def origins_check(sources: Iterable[OpenedSource], caches: Caches) -> Check:
    """False while all origins that were asked are left alone for their failures and no cache has a tile."""
    watched = tuple(sources)

    async def check() -> bool:
        breakers = list(_breakers(watched))
        if not breakers or not all(breakers) or caches.memory.stats().tiles:
            return True
        return caches.disk is not None and caches.disk.stats().tiles > 0

    return check


def _breakers(sources: Iterable[OpenedSource]) -> Iterator[bool]:
    """For each way to tiles whether it is shut: an archive never is."""
    for source in sources:
        lanes = source.lanes()
        if lanes:
            yield from (lane.breaker == "open" for lane in lanes)
        elif isinstance(source.source, StoredSource):
            yield False
