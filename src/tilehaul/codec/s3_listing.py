"""A page of a bucket's keys: ListObjectsV2 of the S3 API."""

from dataclasses import dataclass
from urllib.parse import unquote
from xml.etree import ElementTree as ET

from tilehaul.errors import DataError

_NAMESPACES = ("{http://s3.amazonaws.com/doc/2006-03-01/}", "")


# An object of a petabyte and more is none of ours, nor of any bucket.
SIZE_DIGITS_MAX = 15


@dataclass(frozen=True, slots=True)
class KeyPage:
    """`keys` with their sizes in bytes, in the server's order; `next_token` asks for the page that follows.

    `folders`: where a delimiter was asked for, what stands before it in further keys, delimiter included.
    """

    keys: tuple[tuple[str, int], ...]
    folders: tuple[str, ...] = ()
    next_token: str = ""


def parse_listing(body: bytes) -> KeyPage:
    """Read an answer to `list-type=2` (keys may be URL-encoded, as `encoding-type=url` asks).

    Raises:
        DataError: Not such an answer (`bad_listing`). A document with a DTD, or anything else that begins
            with `<!`, is refused unread: that is where XML's bombs and its reaching outside live.
    """
    try:
        text = body.decode("utf-8")
        if "<!" in text:
            raise DataError("a listing with a document type: refused", cause="bad_listing", head=body)
        root = ET.fromstring(text)  # noqa: S314 - no entity can be declared without `<!`
    except (UnicodeDecodeError, ET.ParseError) as error:
        raise DataError(f"not a listing of a bucket ({error})", cause="bad_listing", head=body) from error
    for space in _NAMESPACES:
        if root.tag == f"{space}ListBucketResult":
            return _page(root, space)
    raise DataError("not a listing of a bucket", cause="bad_listing", head=body)


def _page(root: ET.Element, space: str) -> KeyPage:
    encoded = root.findtext(f"{space}EncodingType") == "url"
    keys = []
    for entry in root.iter(f"{space}Contents"):
        key, size = entry.findtext(f"{space}Key", ""), entry.findtext(f"{space}Size", "")
        if not key or not size.isascii() or not size.isdigit() or len(size) > SIZE_DIGITS_MAX:
            raise DataError("a listing with a key without a name or a size", cause="bad_listing")
        keys.append((unquote(key) if encoded else key, int(size)))
    more = root.findtext(f"{space}IsTruncated") == "true"
    token = root.findtext(f"{space}NextContinuationToken", "") if more else ""
    if more and not token:
        raise DataError("a listing that goes on, but does not say where", cause="bad_listing")
    folders = [entry.findtext(f"{space}Prefix", "") for entry in root.iter(f"{space}CommonPrefixes")]
    return KeyPage(tuple(keys), tuple(unquote(name) if encoded else name for name in folders), token)
