"""How the mock server is set."""

from dataclasses import dataclass, field
from typing import Final

from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults
from tilehaul.lab.script import Script
from tilehaul.lab.tile_bodies import Tiles

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MockSettings:
    """How the mock server is. The default: small plain PNG tiles, no faults, any free port.

    `format` is what the template and paths without an extension mean; empty: png, for imagery jpg.
    `tile_bytes` is the exact size of plain tiles, 0 for the smallest. `cache_bytes_max` bounds the
    memory for ready tiles, `connections_max` open connections (more are cut at once).
    `max_age_s` is what Cache-Control says, `clock_skew_s` how far the server's clock is ahead in
    Date and in Retry-After dates. `making_threads` draw and cut. Without `etags` a client has only the
    date of a tile to ask by, which is always the same.
    """

    tiles: Tiles = "plain"
    format: str = ""
    tile_bytes: int = 0
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    absence: Absence = field(default_factory=Absence)
    script: Script = field(default_factory=Script)
    cache_bytes_max: int = 256 * MIB
    connections_max: int = 4096
    max_age_s: int = 3600
    clock_skew_s: float = 0.0
    making_threads: int = 2
    etags: bool = True
