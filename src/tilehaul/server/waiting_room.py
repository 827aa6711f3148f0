"""How many tile requests wait for an answer, in all and for each layer."""

from collections import Counter

from tilehaul.errors import ConfigError

# Tile requests that may wait for one layer at once. Each holds a task and a connection (about 30 kB).
TILES_WAITING_MAX = 1_000
# And for all layers together, of those for one: an origin that hangs fills its own layer's part and no more.
LAYERS_WAITING = 4


class WaitingRoom:
    """Counts who waits. Who finds no room may have what is here, and is not to wait for an origin.

    Args:
        layer_max: For one layer, > 0; for all LAYERS_WAITING times as many.

    Raises ConfigError when `layer_max` is below 1.
    """

    def __init__(self, layer_max: int = TILES_WAITING_MAX) -> None:
        if layer_max < 1:
            raise ConfigError("tiles_waiting_max must be at least 1")
        self._layer_max = layer_max
        self._waiting: Counter[str] = Counter()
        self.total = 0

    def has_room(self, layer: str, tiles: int = 1) -> bool:
        """Whether so many more may wait."""
        return (
            self._waiting[layer] + tiles <= self._layer_max
            and self.total + tiles <= LAYERS_WAITING * self._layer_max
        )

    def enter(self, layer: str, tiles: int = 1) -> None:
        self._waiting[layer] += tiles
        self.total += tiles

    def leave(self, layer: str) -> None:
        self._waiting[layer] -= 1
        self.total -= 1
