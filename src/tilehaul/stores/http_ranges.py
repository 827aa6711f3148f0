"""Ranges of one HTTP object: RFC 9110, sections 13.1.5 and 14."""

import re

from tilehaul.errors import DataError, PlanError, RefusedError
from tilehaul.ports.wire import Request, Response, Sender

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.ASCII | re.IGNORECASE)


class HttpRangeReader:
    """`RangeReader` over a sender that lets 404 through. Not for use after a DataError `corrupt_archive`.

    The first answer's ETag (or Last-Modified) and size are the object's; another one later means that it was
    replaced, and offsets that were learnt before are worth nothing. `headers` go with every request.
    """

    def __init__(
        self,
        url: str,
        sender: Sender,
        *,
        shown: str,
        lane_class: str = "tile",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._url = url
        self._sender = sender
        self._shown = shown
        self._lane_class = lane_class
        self._headers = headers
        self._version: tuple[str, str] | None = None

    @property
    def shown(self) -> str:
        return self._shown

    async def read(self, offset: int, length: int) -> bytes:
        """See `RangeReader.read`."""
        request = Request(
            self._url,
            headers=(*self._headers, ("Range", f"bytes={offset}-{offset + length - 1}")),
            lane_class=self._lane_class,
            # A server that ignores the range is cut off soon, not after the whole archive.
            body_bytes_max=length,
            expect="stored",
        )
        try:
            answer = await self._sender.send(request)
        except RefusedError as error:
            if error.cause == "too_large":
                raise self._no_ranges() from error
            if error.cause == "http_416":
                raise DataError(f"{self._shown} ends before byte {offset}", cause="truncated") from error
            raise
        if answer.status in (404, 410):
            raise PlanError(f"{self._shown}: there is no such file")
        if answer.status != 206:
            raise self._no_ranges()
        return self._checked(answer, offset, length)

    def _checked(self, answer: Response, offset: int, length: int) -> bytes:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if match is None or int(match[1]) != offset or int(match[2]) != offset + len(answer.body) - 1:
            raise self._no_ranges()
        version = (answer.headers.get("etag") or answer.headers.get("last-modified", ""), match[3])
        if self._version is None:
            self._version = version
        elif version != self._version:
            raise DataError(
                f"{self._shown} was replaced while it was read: open it again", cause="corrupt_archive"
            )
        whole = match[3].isdigit() and offset + len(answer.body) == int(match[3])
        if len(answer.body) < length and not whole:
            raise DataError(f"{self._shown} sent a part of the range", cause="truncated")
        return answer.body

    def _no_ranges(self) -> PlanError:
        return PlanError(
            f"{self._shown}: its server sends no ranges: copy the file here, or serve it with one that does"
        )
