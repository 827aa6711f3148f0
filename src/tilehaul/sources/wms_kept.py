"""Pictures of a WMS that were cut: their tiles are kept until others take their place."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

from tilehaul.ports.origin import UNNAMED, Validators
from tilehaul.ports.wire import MIB

# Tiles that were cut and not yet asked for: those of the last few pictures.
CUT_BYTES_MAX = 32 * MIB
# Counted for each picture besides its tiles: its headers, and what holds them.
CUT_OVERHEAD_BYTES = 2048

Place = TypeVar("Place", bound=Hashable)


class Said(NamedTuple):
    """What the service said of a picture that it was asked for at `asked_s` of the clock.

    `bodies` are its tiles by rows. Without any, `absent` says why there are none; or it is current under the
    names `confirmed`, those of whoever asked.
    """

    headers: Mapping[str, str]
    asked_s: float
    bodies: tuple[bytes, ...] = ()
    media_type: str = ""
    absent: str = ""
    confirmed: Validators = UNNAMED

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.bodies)) + CUT_OVERHEAD_BYTES


class KeptPictures(Generic[Place]):
    """By their place, CUT_BYTES_MAX in all or one that is larger; those looked at longest ago go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Place, Said] = OrderedDict()
        self._bytes = 0

    def find(self, place: Place) -> Said | None:
        """What was said last."""
        said = self._kept.get(place)
        if said is not None:
            self._kept.move_to_end(place)
        return said

    def keep(self, place: Place, said: Said) -> None:
        """In place of what was said before."""
        self.forget(place)
        self._kept[place] = said
        self._bytes += said.size_bytes
        while self._bytes > CUT_BYTES_MAX and len(self._kept) > 1:
            self.forget(next(iter(self._kept)))

    def forget(self, place: Place) -> None:
        """Nothing there is as good."""
        said = self._kept.pop(place, None)
        if said is not None:
            self._bytes -= said.size_bytes
