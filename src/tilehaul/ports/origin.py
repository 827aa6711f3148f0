"""The seam to origins that say how long their answers are good, and may be asked for what has changed."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, Self, runtime_checkable

from tilehaul.grid.tile_id import TileId
from tilehaul.ports.source import TileSource
from tilehaul.ports.store import TileArchive
from tilehaul.ports.tile import NoTile, Tile


class Validators(NamedTuple):
    """What an origin calls the state of something: exactly as it came, empty where it gave no such name."""

    etag: str = ""
    last_modified: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """Those of an answer. Names of headers in lower case, as in `Response`."""
        return cls(headers.get("etag", ""), headers.get("last-modified", ""))

    @property
    def condition(self) -> tuple[tuple[str, str], ...]:
        """The headers that ask only for what has changed; none when there is nothing to tell it by.

        RFC 9110, 13.1.3: a date is looked at only where there is no ETag.
        """
        if self.etag:
            return (("If-None-Match", self.etag),)
        if self.last_modified:
            return (("If-Modified-Since", self.last_modified),)
        return ()

    def kept_by(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers of a 304 with the names it did not repeat, which stay (RFC 9110, 15.4.5)."""
        named = {"etag": self.etag, "last-modified": self.last_modified}
        return {name: value for name, value in named.items() if value} | dict(headers)


UNNAMED = Validators()


class Heard(NamedTuple):
    """What an origin said of one tile; a tuple, because one is made for every tile (see `Request`).

    `answer` None: what the question named is current. `headers` are those it came with, none where nothing
    was asked. `anew` is there where the source itself kept it, as part of a larger answer that is `age_s`
    old: it asks the origin, for who finds that too old.
    """

    answer: Tile | NoTile | None
    headers: Mapping[str, str] = MappingProxyType({})
    age_s: float = 0.0
    anew: "Callable[[], Awaitable[Heard]] | None" = None

    @property
    def told(self) -> Tile | NoTile:
        """The answer to a question that named nothing."""
        assert self.answer is not None  # noqa: S101 - nobody answers "current" to that
        return self.answer


class Askable(Protocol):
    """`ask` is a `get` that says what the origin said besides; with names, only what has changed is sent.

    Raises as `get`. A 304 that no name asked for is none of its answers.
    """

    async def ask(self, tile_id: TileId, named: Validators = UNNAMED) -> Heard: ...


@runtime_checkable
class AskableSource(TileSource, Askable, Protocol):
    """A source over HTTP."""


@runtime_checkable
class AskableArchive(TileArchive, Askable, Protocol):
    """An archive over HTTP."""
