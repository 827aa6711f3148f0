"""Where to read what the senders of one opening are doing."""

from collections.abc import Callable

from tilehaul.ports.lane import Lanes, LaneSnapshot


class Gauges:
    """Filled by whoever opens senders, read by whoever wants to know; empty for sources without a network."""

    def __init__(self) -> None:
        self._lanes: list[Lanes] = []
        self._connections: list[Callable[[], int]] = []

    def add(self, lanes: Lanes, connections: Callable[[], int]) -> None:
        """Read these as well. `connections`: how many are open."""
        self._lanes.append(lanes)
        self._connections.append(connections)

    def lanes(self) -> tuple[LaneSnapshot, ...]:
        """Every lane that was used, as it is now. In the thread of the senders' loop; under 1 ms a lane."""
        return tuple(lane for lanes in self._lanes for lane in lanes())

    def connections(self) -> int:
        """Connections that these senders hold open, idle ones included."""
        return sum(count() for count in self._connections)
