"""The objects of one bucket below one prefix: get, put, create, delete, list, over the S3 API."""

from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import md5
from urllib.parse import quote, urlsplit

from tilehaul.codec.s3_listing import SIZE_DIGITS_MAX, KeyPage, parse_listing
from tilehaul.codec.safe_url import redact
from tilehaul.errors import BrokenError, PlanError, RefusedError
from tilehaul.ports.wire import MIB, Request, Response, Sender

Headers = tuple[tuple[str, str], ...]

LISTING_BYTES_MAX = 16 * MIB
KEYS_A_PAGE = 1000
_NOT_MODIFIED_SINCE = ("http_409", "http_412")


class BucketObjects:
    """Keys are relative to the prefix. Every method raises what the sender raises.

    Args:
        url: Endpoint, bucket and prefix, ending in `/`; path style.
        sender: Signs, retries, and lets 404 through.
    """

    def __init__(self, url: str, sender: Sender) -> None:
        self._url = url
        self._sender = sender
        parts = urlsplit(url)
        # endpoint/bucket/prefix
        bucket, _, prefix = parts.path.lstrip("/").partition("/")
        self._bucket_url = f"{parts.scheme}://{parts.netloc}/{bucket}"
        self._prefix = prefix
        # Some servers know no conditional writes; told once, they are not asked again.
        self._conditional = True

    async def get(self, key: str, condition: Headers = ()) -> Response | None:
        """The object, or None when there is none. With a condition also an answer of status 304."""
        asked = Request(self._url + key, headers=condition, lane_class="s3-read", expect="stored")
        answer = await self._sender.send(asked)
        return answer if answer.status in (200, 304) else None

    async def put(self, key: str, body: bytes, headers: Headers) -> None:
        """Write, whatever is there. The bucket checks the body against its digest."""
        await self._sender.send(
            Request(
                self._url + key,
                "PUT",
                (*headers, ("Content-MD5", _content_md5(body))),
                lane_class="s3-write",
                expect="any",
                body=body,
            )
        )

    async def create(self, key: str, body: bytes, headers: Headers, *, keep_other: bool) -> None:
        """Write unless it is there. What is there already counts when it is the same.

        An answer that got lost leaves an object that a repeated write finds: it is the same, and done
        (`resilience` (b) 45). Another body is replaced, or with `keep_other` left as it is.
        """
        if not self._conditional:
            await self.put(key, body, headers)
            return
        try:
            await self.put(key, body, (*headers, ("If-None-Match", "*")))
        except (RefusedError, BrokenError) as error:
            if error.cause in _NOT_MODIFIED_SINCE:
                if not keep_other and not await self._is_same(key, body):
                    await self.put(key, body, headers)
                return
            if error.cause not in ("http_400", "http_501"):
                raise
            self._conditional = False
            await self.put(key, body, headers)

    async def size(self, key: str) -> int:
        """Bytes of the object; 0 when there is none."""
        answer = await self._head(key)
        declared = answer.headers.get("content-length", "")
        plain = declared.isascii() and declared.isdigit() and len(declared) <= SIZE_DIGITS_MAX
        return int(declared) if answer.status == 200 and plain else 0

    async def _is_same(self, key: str, body: bytes) -> bool:
        """By the ETag, which is the MD5 of an object that was written in one piece (S3 and R2)."""
        answer = await self._head(key)
        etag = answer.headers.get("etag", "").removeprefix("W/").strip('"')
        return answer.status == 200 and etag == md5(body, usedforsecurity=False).hexdigest()

    async def _head(self, key: str) -> Response:
        return await self._sender.send(Request(self._url + key, "HEAD", lane_class="s3-read", expect="any"))

    async def delete(self, key: str) -> None:
        """Remove; nothing there is as good."""
        await self._sender.send(Request(self._url + key, "DELETE", lane_class="s3-write", expect="any"))

    async def keys(self, under: str = "") -> AsyncIterator[tuple[str, int]]:
        """Every key below the prefix that begins with `under`, and its size in bytes, in the bucket's order.

        Raises DataError (`bad_listing`) for an answer that is no listing; PlanError: no such bucket.
        """
        async for page in self._pages(under, ""):
            for key, size_bytes in page.keys:
                if key.startswith(self._prefix):
                    yield key[len(self._prefix) :], size_bytes

    async def folders(self, under: str = "") -> list[str]:
        """The names between `under` and the next slash. Raises as `keys`."""
        start = len(self._prefix) + len(under)
        return [name[start:-1] async for page in self._pages(under, "/") for name in page.folders]

    async def _pages(self, under: str, delimiter: str) -> AsyncIterator[KeyPage]:
        token = ""
        while True:
            # Sorted by name: some servers check a signature over the query as it was sent.
            asked = {
                "continuation-token": token,
                "delimiter": delimiter,
                "encoding-type": "url",
                "list-type": "2",
                "max-keys": str(KEYS_A_PAGE),
                "prefix": self._prefix + under,
            }
            query = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items() if value)
            request = Request(
                f"{self._bucket_url}?{query}",
                lane_class="s3-read",
                body_bytes_max=LISTING_BYTES_MAX,
                expect="any",
            )
            answer = await self._sender.send(request)
            if answer.status != 200:
                raise PlanError(f"{redact(self._bucket_url)}: there is no such bucket")
            page = parse_listing(answer.body)
            yield page
            token = page.next_token
            if not token:
                return


def _content_md5(body: bytes) -> str:
    return b64encode(md5(body, usedforsecurity=False).digest()).decode()
