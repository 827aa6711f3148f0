"""tilehaul moves map imagery from where it lives to where it is needed.

    async with tilehaul.open("https://host/{z}/{x}/{y}.png") as source:
        tile = await source.get(tilehaul.TileId(3, 4, 2))

    area = tilehaul.Area.from_bbox(5, 44, 17, 48, range(11))
    report = await tilehaul.seed("https://host/{z}/{x}/{y}.png", "alps.mbtiles", area)

`tilehaul.blocking` has the same for synchronous callers. Public names are loaded when they are first
used, so that `import tilehaul` costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tilehaul import blocking
    from tilehaul.config.sending import Sending
    from tilehaul.errors import (
        BrokenError,
        BusyError,
        ConfigError,
        DataError,
        DeniedError,
        FuseError,
        PlanError,
        RefusedError,
        StorageError,
        ThrottledError,
        TilehaulError,
        TimedOutError,
        TransferError,
        UnreachableError,
    )
    from tilehaul.grid.area import Area
    from tilehaul.grid.tile_id import TileId
    from tilehaul.jobs.mailbox import Mailbox
    from tilehaul.jobs.stop import Stop
    from tilehaul.policy.fuse import FailureLimit
    from tilehaul.ports.events import JobStarted, LaneChanged, LaneHeld, Progress, SeedReport, TileDead
    from tilehaul.ports.store import DeadLetter
    from tilehaul.ports.tile import FailedTile, NoTile, Tile
    from tilehaul.wiring.copying import copy
    from tilehaul.wiring.missing import missing
    from tilehaul.wiring.places import open_source as open  # noqa: A004
    from tilehaul.wiring.retrying import dead_letters, drop_dead_letters, retry
    from tilehaul.wiring.seeding import SeedOptions, seed
    from tilehaul.wiring.streaming import stream

_HOMES = {
    "Area": "tilehaul.grid.area",
    "BrokenError": "tilehaul.errors",
    "BusyError": "tilehaul.errors",
    "ConfigError": "tilehaul.errors",
    "DataError": "tilehaul.errors",
    "DeadLetter": "tilehaul.ports.store",
    "DeniedError": "tilehaul.errors",
    "FailedTile": "tilehaul.ports.tile",
    "FailureLimit": "tilehaul.policy.fuse",
    "FuseError": "tilehaul.errors",
    "JobStarted": "tilehaul.ports.events",
    "LaneChanged": "tilehaul.ports.events",
    "LaneHeld": "tilehaul.ports.events",
    "Mailbox": "tilehaul.jobs.mailbox",
    "NoTile": "tilehaul.ports.tile",
    "PlanError": "tilehaul.errors",
    "Progress": "tilehaul.ports.events",
    "RefusedError": "tilehaul.errors",
    "SeedOptions": "tilehaul.wiring.seeding",
    "SeedReport": "tilehaul.ports.events",
    "Sending": "tilehaul.config.sending",
    "Stop": "tilehaul.jobs.stop",
    "StorageError": "tilehaul.errors",
    "ThrottledError": "tilehaul.errors",
    "Tile": "tilehaul.ports.tile",
    "TileDead": "tilehaul.ports.events",
    "TileId": "tilehaul.grid.tile_id",
    "TilehaulError": "tilehaul.errors",
    "TimedOutError": "tilehaul.errors",
    "TransferError": "tilehaul.errors",
    "UnreachableError": "tilehaul.errors",
    "blocking": "tilehaul.blocking",
    "copy": "tilehaul.wiring.copying",
    "dead_letters": "tilehaul.wiring.retrying",
    "drop_dead_letters": "tilehaul.wiring.retrying",
    "missing": "tilehaul.wiring.missing",
    "open": "tilehaul.wiring.places",
    "retry": "tilehaul.wiring.retrying",
    "seed": "tilehaul.wiring.seeding",
    "stream": "tilehaul.wiring.streaming",
}
__all__ = [
    "Area",
    "BrokenError",
    "BusyError",
    "ConfigError",
    "DataError",
    "DeadLetter",
    "DeniedError",
    "FailedTile",
    "FailureLimit",
    "FuseError",
    "JobStarted",
    "LaneChanged",
    "LaneHeld",
    "Mailbox",
    "NoTile",
    "PlanError",
    "Progress",
    "RefusedError",
    "SeedOptions",
    "SeedReport",
    "Sending",
    "Stop",
    "StorageError",
    "ThrottledError",
    "Tile",
    "TileDead",
    "TileId",
    "TilehaulError",
    "TimedOutError",
    "TransferError",
    "UnreachableError",
    "blocking",
    "copy",
    "dead_letters",
    "drop_dead_letters",
    "missing",
    "open",
    "retry",
    "seed",
    "stream",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    import importlib  # noqa: PLC0415 - only when a public name is used

    if name not in _HOMES:
        raise AttributeError(f"module 'tilehaul' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    if name == "blocking":
        return module
    return getattr(module, "open_source" if name == "open" else name)
