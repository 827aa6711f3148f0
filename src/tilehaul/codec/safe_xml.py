"""XML from strangers: no entities, nothing fetched, bounded in size and depth."""

import re
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from tilehaul.codec.safe_url import redact_text
from tilehaul.errors import DataError

XML_BYTES_MAX = 16 * 1024 * 1024
XML_DEPTH_MAX = 64
# Of a service's own words about an error, so many characters are repeated.
SAID_CHARS_MAX = 160
_SAID_HEAD_BYTES = 4096

_WMS_SAID = re.compile(rb"<(?:\w+:)?ServiceException\b([^>]*)>(.*?)(?:</|\Z)", re.DOTALL)
_OWS_SAID = re.compile(rb"<(?:\w+:)?Exception\b([^>]*)>(.*?)(?:</(?:\w+:)?Exception>|\Z)", re.DOTALL)
_CODE = re.compile(rb"(?:exceptionCode|code)\s*=\s*[\"']([^\"']{1,80})")
_TAG = re.compile(r"<!\[CDATA\[|\]\]>|<[^>]*>")


class _Shallow(TreeBuilder):
    """Builds a tree with local names, and refuses one that is too deep."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str]) -> Element:
        self._depth += 1
        if self._depth > XML_DEPTH_MAX:
            raise DataError(f"the XML is nested deeper than {XML_DEPTH_MAX} levels", cause="corrupt")
        named = {name.rpartition("}")[2]: value for name, value in attrs.items()}
        return super().start(tag.rpartition("}")[2], named)

    def end(self, tag: str) -> Element:
        self._depth -= 1
        return super().end(tag.rpartition("}")[2])


def parse_xml(body: bytes) -> Element:
    """The root element; names of elements and attributes are without their namespace.

    A DOCTYPE that only names itself or declares elements passes, because every WMS 1.1.1 document has one;
    it is never fetched. Entities are refused, whether they are used or not.

    Raises:
        DataError: cause `corrupt`: more than XML_BYTES_MAX or XML_DEPTH_MAX, entities, or no XML.
    """
    if len(body) > XML_BYTES_MAX:
        raise DataError(f"the XML has {len(body)} bytes, at most {XML_BYTES_MAX} are read", cause="corrupt")
    parser: Any = DefusedXMLParser(
        target=_Shallow(), forbid_dtd=False, forbid_entities=True, forbid_external=True
    )
    try:
        parser.feed(body)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise DataError("the XML declares entities, which are refused", cause="corrupt", head=body) from error
    except (ParseError, LookupError, ValueError) as error:
        raise DataError(f"this is no whole XML: {error}", cause="corrupt", head=body) from error
    return root


def text_of(parent: Element, path: str) -> str:
    """The words of a descendant as `in_one_line`, empty when there is none."""
    return in_one_line(parent.findtext(path))


def in_one_line(text: str | None) -> str:
    """White space as XML Schema's tokens have it: none around, one blank between words."""
    return " ".join((text or "").split())


def exception_said(body: bytes) -> str:
    """What an OGC service says in its exception: `code: words`, shortened and masked; empty for other bodies.

    Reads WMS's ServiceException and OWS's Exception, also where a server labels them HTML.
    """
    head = body[:_SAID_HEAD_BYTES]
    # Capabilities have an element Exception too: what forms errors may take.
    if b"ExceptionReport" not in head:
        return ""
    found = _WMS_SAID.search(head) or _OWS_SAID.search(head)
    if found is None:
        return ""
    code = _CODE.search(found[1])
    told = found[2] if code is None else code[1] + b": " + found[2]
    words = _TAG.sub(" ", redact_text(told.decode("utf-8", "replace")))
    plain = " ".join("".join(char if char.isprintable() else " " for char in words).split())
    return plain[:SAID_CHARS_MAX].removesuffix(":")


def is_out_of_range(body: bytes) -> bool:
    """Whether it is the OWS exception that says: there is no such tile (WMTS 1.0.0, table 24)."""
    found = _OWS_SAID.search(body[:_SAID_HEAD_BYTES])
    code = _CODE.search(found[1]) if found else None
    return code is not None and code[1] == b"TileOutOfRange"
