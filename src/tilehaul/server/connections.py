"""How many connections may be open at once, and which one goes when there are too many."""

import logging
from collections import OrderedDict
from typing import Protocol

try:
    import resource
except ImportError:  # Windows has no such limit to read
    resource = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

# A browser opens six, so this serves well over a thousand people at once.
CONNECTIONS_MAX = 8_192
# Waiting in the kernel to be accepted.
BACKLOG_MAX = 2_048
# Looked at for one to close before the newcomer itself is sent away.
PROBES_MAX = 32
# One line a minute is enough to say that the limit is at work.
WARNING_EVERY_S = 60.0


class Connection(Protocol):
    """What is asked of a connection: is a request on its way, when would it be closed for its silence."""

    @property
    def busy(self) -> bool: ...

    @property
    def deadline_s(self) -> float: ...

    def abort(self) -> None: ...


class OpenConnections:
    """The connections of one server, never more than `connections_max`.

    One more than that closes the one nearest to the end of its patience; connections with a request
    on their way are spared. When there are only such, the newcomer is closed.

    The order is kept lazily: a connection is put back in its place when it comes to the front and has
    been heard of since, so that a request costs nothing here.
    """

    def __init__(self, connections_max: int = CONNECTIONS_MAX) -> None:
        self.connections_max = connections_max
        self.turned_away = 0
        self._open: OrderedDict[Connection, float] = OrderedDict()
        self._warned_s: float | None = None

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, newcomer: Connection, now_s: float) -> None:
        """Count a new connection in; one is closed if it is one too many."""
        self._open[newcomer] = newcomer.deadline_s
        if len(self._open) <= self.connections_max:
            return
        victim = self._longest_silent() or newcomer
        self._open.pop(victim)
        victim.abort()
        self.turned_away += 1
        if self._warned_s is None or now_s - self._warned_s >= WARNING_EVERY_S:
            self._warned_s = now_s
            log.warning(
                "more than %d connections at once: silent ones are closed early (%d so far)",
                self.connections_max,
                self.turned_away,
            )

    def leave(self, connection: Connection) -> None:
        """Count a connection out; no harm when it is out already."""
        self._open.pop(connection, None)

    def _longest_silent(self) -> Connection | None:
        for _ in range(min(PROBES_MAX, len(self._open) - 1)):
            front, seen_s = self._open.popitem(last=False)
            deadline_s = front.deadline_s
            self._open[front] = deadline_s
            if not front.busy and deadline_s <= seen_s:
                return front
        return None


def files_max() -> int | None:
    """How many files this process may have open (its soft limit); None when there is no such limit."""
    if resource is None:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def connections_max_of(files: int | None) -> int:
    """How many connections to allow a process that may have `files` files open, at least 1.

    Half of them: the rest is for origins and archives, and for newcomers that are accepted in one go
    before the first of those they push out is really closed.
    """
    return CONNECTIONS_MAX if files is None else max(1, min(CONNECTIONS_MAX, files // 2))


def backlog_of(connections_max: int, files: int | None) -> int:
    """How many connections may wait to be accepted: half of the files that `connections_max` leaves."""
    return BACKLOG_MAX if files is None else max(1, min(BACKLOG_MAX, (files - connections_max) // 2))
