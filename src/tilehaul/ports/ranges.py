"""The seam to bytes in the middle of something: a file elsewhere, read by ranges."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, Self

from tilehaul.ports.origin import UNNAMED, Validators
from tilehaul.ports.source import SourceVersion


class Part(NamedTuple):
    """A range and the headers it came with; `body` None: what the question named is current."""

    body: bytes | None
    headers: Mapping[str, str]


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

    @property
    def named(self) -> Validators:
        """What its server calls the object, once it was read."""
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

    async def ask(self, offset: int, length: int, named: Validators = UNNAMED) -> Part:
        """As `read`, but only if the object is another than the one named so."""
        ...

    async def confirm(self, within_s: float) -> None:
        """Ask whether it is still the same object, unless it was heard of within so many seconds.

        Raises as `read`.
        """
        ...

    def again(self) -> Self:
        """A reader of the object that is there now; this one stays with its own."""
        ...
