"""The seam to bytes in the middle of something: a file elsewhere, read by ranges."""

from typing import Protocol

from tilehaul.ports.source import SourceVersion


class RangeReader(Protocol):
    """Reads one object, which stays the same object for as long as it is open."""

    @property
    def shown(self) -> str:
        """Its name for people, redacted."""
        ...

    @property
    def version(self) -> SourceVersion | None:
        """The object's state, from the first read on."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """`length` > 0 bytes from `offset` on; fewer only where the object ends.

        Raises:
            PlanError: There is no such object, or its server sends no ranges.
            DataError: It was replaced since the first read (`replaced`); or what came is no such range,
                attempt after attempt (`truncated`, `no_range`).
            TransferError: As the sender.
        """
        ...
