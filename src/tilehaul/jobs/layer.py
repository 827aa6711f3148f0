"""One layer of the service: where its tiles come from and how they are answered."""

import re
from dataclasses import dataclass, field
from typing import Literal

from tilehaul.errors import ConfigError
from tilehaul.jobs.tile_stats import TileStats
from tilehaul.ports.lane import Lanes
from tilehaul.ports.source import Departures, TileSource

# What a layer answers for a tile the source says does not exist. 404 suits raster maps (MapLibre then
# enlarges the parent), 204 vector ones, a transparent picture clients that retry or draw a cross.
Missing = Literal[404, 204, "transparent"]

MISSING_MAX_AGE_S = 300

# A layer's name is part of every address and of file names, so nothing that needs escaping.
LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Layer:
    """A named source and the way it is served.

    Args:
        name: 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
        source: Answers the tiles; wrapped in cache and coalescing by whoever builds the layer.
        title: For people; the name when empty.
        attribution: As shown on maps; the source's own when empty. May hold links (HTML).
        missing: See `Missing`.
        formats: Media types that may be asked for; empty: all.
        max_age_s: `Cache-Control: max-age` of tiles, >= 0; None: as long as each stays fresh.
        missing_max_age_s: The same of the answer to a missing tile, >= 0.
        private: Only who has a key may know of it; no shared cache may keep its tiles.
        lane_max: Most fetches at once the layer's lane allows; 0 when not known. Reported only.
        lanes: Asked for the lanes to the layer's origins.
        flights: The source's fetches on their way, where others may wait for them.
        stats: What was counted. Give the same object to the layer's `CoalescedSource`.

    Raises:
        ConfigError: A value is out of range; the message names the layer and the key.
    """

    name: str
    source: TileSource
    title: str = ""
    attribution: str = ""
    missing: Missing = 404
    formats: frozenset[str] = frozenset()
    max_age_s: int | None = None
    missing_max_age_s: int = MISSING_MAX_AGE_S
    private: bool = False
    lane_max: int = 0
    lanes: Lanes = field(default=tuple, compare=False)
    flights: Departures | None = field(default=None, compare=False)
    stats: TileStats = field(default_factory=TileStats, compare=False)

    def __post_init__(self) -> None:
        if not LAYER_NAME.fullmatch(self.name):
            raise ConfigError(
                f"layer name {self.name!r}: use 1 to 64 letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit"
            )
        if self.missing not in (404, 204, "transparent"):
            raise ConfigError(f"layers.{self.name}.missing: {self.missing!r} is not 404, 204 or transparent")
        for key, value in (("max_age", self.max_age_s), ("missing_max_age", self.missing_max_age_s)):
            if value is not None and value < 0:
                raise ConfigError(f"layers.{self.name}.{key}: {value} is below 0")

    @property
    def cache_scope(self) -> str:
        """Which caches on the way may keep its answers (RFC 9111, section 5.2.2)."""
        return "private" if self.private else "public"

    @property
    def attribution_shown(self) -> str:
        return self.attribution or self.source.info.attribution

    @property
    def title_shown(self) -> str:
        return self.title or self.name
