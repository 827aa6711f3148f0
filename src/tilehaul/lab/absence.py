"""Which tiles the mock server does not have."""

from collections.abc import Callable
from dataclasses import dataclass

from tilehaul.errors import ConfigError
from tilehaul.grid.tile_id import TileId
from tilehaul.lab.fault_words import parse_number
from tilehaul.lab.faults import luck


@dataclass(frozen=True, slots=True)
class Absence:
    """Tiles that do not exist, for good: the same ones at every request.

    A tile is absent when its zoom is above `above_zoom`, when `when` says so, or when it is in the
    `share` (0 to 1) drawn by seed and address. `status` is 404 or 204.

    Raises:
        ConfigError: A share outside 0..1, or another status.
    """

    share: float = 0.0
    above_zoom: int | None = None
    when: Callable[[TileId], bool] | None = None
    status: int = 404

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"absent: a share from 0 to 1, not {self.share:g}")
        if self.status not in (204, 404):
            raise ConfigError(f"absent: status 404 or 204, not {self.status}")

    def covers(self, tile_id: TileId, seed: int) -> bool:
        """Whether the tile is absent."""
        if self.above_zoom is not None and tile_id.z > self.above_zoom:
            return True
        if self.when is not None and self.when(tile_id):
            return True
        return self.share > 0 and luck(seed, "absent", str(tile_id), 0) < self.share


def parse_absence(text: str) -> Absence:
    """`SHARE` or `zoom>N`, either with `:404` or `:204` behind. Raises ConfigError."""
    what, colon, status_text = text.replace(" ", "").partition(":")
    status = int(parse_number(status_text, "absent")) if colon else 404
    if what.startswith("zoom>"):
        return Absence(above_zoom=int(parse_number(what.removeprefix("zoom>"), "absent")), status=status)
    return Absence(parse_number(what, "absent"), status=status)
