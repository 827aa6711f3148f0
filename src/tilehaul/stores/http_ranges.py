"""Ranges of one HTTP object: RFC 9110, sections 13.1.5 and 14."""

from tilehaul.errors import DataError, PlanError, RefusedError
from tilehaul.policy.causes import REPLACED
from tilehaul.ports.clock import Clock
from tilehaul.ports.origin import UNNAMED, Validators
from tilehaul.ports.ranges import Part
from tilehaul.ports.source import SourceVersion
from tilehaul.ports.wire import Request, Response, Sender
from tilehaul.stores.source_version import object_version


class HttpRangeReader:
    """`RangeReader` over a sender that verifies ranges (`expect="range"`), tries again, and lets 404 through.
    Not for use after a DataError `replaced`.

    The first answer's ETag (or Last-Modified) and size are the object's; another one later means that it was
    replaced, and offsets that were learnt before are worth nothing. `headers` go with every request; `clock`
    says when the object was last heard of.
    """

    def __init__(
        self,
        url: str,
        sender: Sender,
        *,
        shown: str,
        clock: Clock,
        lane_class: str = "tile",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._url = url
        self._sender = sender
        self._shown = shown
        self._clock = clock
        self._lane_class = lane_class
        self._headers = headers
        self._version: SourceVersion | None = None
        self._named = UNNAMED
        self._heard_s = float("-inf")

    def again(self) -> "HttpRangeReader":
        """See `RangeReader.again`."""
        return HttpRangeReader(
            self._url,
            self._sender,
            shown=self._shown,
            clock=self._clock,
            lane_class=self._lane_class,
            headers=self._headers,
        )

    @property
    def named(self) -> Validators:
        return self._named

    @property
    def shown(self) -> str:
        return self._shown

    @property
    def version(self) -> SourceVersion | None:
        """See `RangeReader.version`."""
        return self._version

    async def read(self, offset: int, length: int) -> bytes:
        """See `RangeReader.read`."""
        body = (await self.ask(offset, length)).body
        assert body is not None  # noqa: S101 - nothing was named
        return body

    async def confirm(self, within_s: float) -> None:
        """See `RangeReader.confirm`."""
        if self._clock.now_s() - self._heard_s > within_s:
            await self.ask(0, 1, self._named)

    async def ask(self, offset: int, length: int, named: Validators = UNNAMED) -> Part:
        """See `RangeReader.ask`."""
        span = ("Range", f"bytes={offset}-{offset + length - 1}")
        request = Request(
            self._url,
            headers=(*self._headers, span, *named.condition),
            lane_class=self._lane_class,
            # A server that ignores the range is cut off soon, not after the whole archive.
            body_bytes_max=length,
            expect="range",
        )
        try:
            answer = await self._sender.send(request)
        except RefusedError as error:
            if error.cause == "http_416":
                raise DataError(f"{self._shown} ends before byte {offset}", cause="truncated") from error
            raise
        except DataError as error:
            # Where a range has come before, the server knows them: this one is a fault like any other.
            if error.cause == "no_range" and self._version is None:
                raise PlanError(
                    f"{self._shown}: its server sends no ranges: copy the file here, or serve it with one"
                    " that does"
                ) from error
            raise
        if answer.status in (404, 410):
            raise PlanError(f"{self._shown}: there is no such file")
        if answer.status != 304:
            self._check_version(answer)
        if answer.status != 304 or named == self._named:
            self._heard_s = self._clock.now_s()
        return Part(None if answer.status == 304 else answer.body, answer.headers)

    def _check_version(self, answer: Response) -> None:
        size = answer.headers["content-range"].rpartition("/")[2].strip()
        told = answer.headers
        version = object_version(told.get("etag", ""), told.get("last-modified", ""), size)
        if self._version is None:
            self._version, self._named = version, Validators.of(answer.headers)
        elif version != self._version:
            raise DataError(
                f"{self._shown} was replaced while it was read; tiles that are kept are of the old one:"
                " `tilehaul copy --update` moves what differs, --overwrite moves all again",
                cause=REPLACED,
            )
