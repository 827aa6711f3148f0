"""A location is one string: where tiles live."""

import errno
import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tilehaul.codec.safe_url import redact
from tilehaul.errors import PlanError

Kind = Literal[
    "xyz",
    "provider",
    "mbtiles",
    "pmtiles",
    "remote",
    "geopackage",
    "directory",
    "bucket",
    "wms",
    "wmts",
    "tms",
]

# Kinds that answer tiles and cannot say which they have.
SERVICES: frozenset[Kind] = frozenset({"xyz", "provider", "wms", "wmts", "tms"})

# Kinds that lie on this machine: nothing is asked of anybody.
NEAR_KINDS: frozenset[Kind] = frozenset({"mbtiles", "pmtiles", "geopackage", "directory"})

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PROVIDER = re.compile(r"provider:[^/\\]", re.IGNORECASE)
_SERVICES: dict[str, Kind] = {
    "wms+http": "wms",
    "wms+https": "wms",
    "tms+http": "tms",
    "tms+https": "tms",
    "wmts+http": "wmts",
    "wmts+https": "wmts",
}
_KINDS: dict[str, Kind] = {".mbtiles": "mbtiles", ".pmtiles": "pmtiles", ".gpkg": "geopackage"}
_ARCHIVES = "an .mbtiles, .pmtiles or .gpkg file or a directory"
# Of a name that is too long.
NAME_SHOWN = 60
# How the rows of a directory are counted; without it from the north.
_ROWS = re.compile(r"(?P<root>.+?)/\{z\}/\{x\}/\{(?P<south>-?)y\}", re.DOTALL)
# As files of some kind have it, and folders of a version, `tiles.2024`, have not.
_FILE_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,9}")
# Files that become tiles on being asked so.
PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})
# A GeoPackage may hold several tile tables.
_TABLE = re.compile(r"(?P<file>.*?\.gpkg)#(?P<table>.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Location:
    """`text` is a URL template for `xyz`, a file for `mbtiles`, `pmtiles` and `geopackage`, a folder for
    `directory` (`FOLDER/{z}/{x}/{-y}`: rows from the south), `s3://bucket/prefix` or `r2://...` for `bucket`.
    A GeoPackage's tile table may follow its name, `file.gpkg#table`. For `wms` and `wmts` it is
    `wms+https://...`, `wmts+https://...` with the service's query, for `tms` `tms+https://...` of a map; for
    `remote` the address of a .pmtiles file, `https://...` or in a bucket; for `provider` it is
    `provider:NAME?key=...`.
    """

    kind: Kind
    text: str

    @property
    def path(self) -> Path:
        named = self._named_table()
        if self.kind == "directory" and (rows := _ROWS.fullmatch(self.text)):
            return Path(rows["root"])
        return Path(named["file"] if named else self.text)

    @property
    def tms(self) -> bool:
        """Whether a directory's rows are counted from the south."""
        rows = _ROWS.fullmatch(self.text) if self.kind == "directory" else None
        return rows is not None and rows["south"] == "-"

    @property
    def table(self) -> str:
        """The tile table of a GeoPackage; empty: its only one."""
        named = self._named_table()
        return named["table"] if named else ""

    def _named_table(self) -> "re.Match[str] | None":
        return _TABLE.fullmatch(self.text) if self.kind == "geopackage" else None


def parse_location(text: str) -> Location:
    """Say what a location is, without looking whether it exists.

    Raises:
        PlanError: Nothing that tilehaul knows, or knows but cannot open yet.
    """
    stripped = text.strip()
    if not stripped:
        raise PlanError(
            "an empty location: name a URL template, an .mbtiles, .pmtiles or .gpkg file or a directory"
        )
    check_name(stripped)
    if _PROVIDER.match(stripped):
        return Location("provider", stripped)
    if _SCHEME.match(stripped):
        _check_authority(stripped)
        scheme = stripped.partition("://")[0].lower()
        if scheme in ("http", "https", "s3", "r2") and _is_pmtiles(stripped):
            return Location("remote", stripped)
        if scheme in ("http", "https"):
            if "{" not in stripped and "%(" not in stripped:
                raise PlanError(
                    f"{redact(stripped)} has no {{z}}/{{x}}/{{y}} in it: write where the numbers go,"
                    " e.g. https://host/tiles/{z}/{x}/{y}.png"
                )
            return Location("xyz", stripped)
        if scheme in ("s3", "r2"):
            return Location("bucket", stripped)
        if scheme in _SERVICES:
            return Location(_SERVICES[scheme], stripped)
        raise PlanError(
            f'unknown scheme "{scheme}": http, https, wms+https, wmts+https, tms+https, s3, r2, {_ARCHIVES}'
        )
    _check_length(stripped)
    named = _TABLE.fullmatch(stripped)
    suffix = ".gpkg" if named else Path(stripped).suffix.lower()
    if suffix in _KINDS:
        return Location(_KINDS[suffix], stripped)
    if suffix in PICTURE_ENDINGS and Path(stripped).is_file():
        raise PlanError(
            f"{stripped} is a picture: `tilehaul copy {stripped} STORE --pixels` makes tiles of it"
        )
    if suffix and Path(stripped).is_file():
        raise PlanError(
            f"{stripped} is a file of an unknown kind: .mbtiles, .pmtiles, .gpkg and directories are known"
        )
    if "{" in stripped and not _ROWS.fullmatch(stripped):
        raise PlanError(
            f"{stripped}: a folder of tiles is named as it is, or FOLDER/{{z}}/{{x}}/{{-y}} where rows are"
            " counted from the south; file names follow the tiles' own formats"
        )
    if _FILE_SUFFIX.fullmatch(suffix) and not _ends_as_folder(stripped) and not Path(stripped).exists():
        near = get_close_matches(suffix, _KINDS, n=1)
        meant = f": did you mean {near[0]}?" if near else ";"
        raise PlanError(
            f'there is no {stripped}, and "{suffix}" is no kind of archive that tilehaul knows{meant}'
            f" .mbtiles, .pmtiles and .gpkg are known; for a directory of that name write {stripped}/"
        )
    return Location("directory", stripped)


def _ends_as_folder(text: str) -> bool:
    return text.endswith(("/", os.sep)) or _ROWS.fullmatch(text) is not None


def check_name(text: str) -> None:
    """Raise PlanError for a name that is no text: SQLite and every address want UTF-8."""
    if "\0" in text:
        raise PlanError("a location holds a zero byte, which is in the name of no file and no host")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if "://" in text:  # what is in an address may be a key, and is not repeated
            raise PlanError("an address holds bytes that are not UTF-8: write them as %XX") from error
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise PlanError(f"{shown}: this name is not UTF-8, as every name must be here: rename it") from error


def _check_length(name: str) -> None:
    """Raise PlanError for a name that its disk cannot have: it is refused even to look."""
    try:
        os.lstat(name)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PlanError(f"{name[:NAME_SHOWN]}...: this name is too long: choose a shorter one") from error


def _is_pmtiles(url: str) -> bool:
    """Whether the address is one file, not a template with a place for the numbers."""
    return "{" not in url and "%(" not in url and urlsplit(url).path.lower().endswith(".pmtiles")


def _check_authority(url: str) -> None:
    """Raise PlanError for a host or port that no URL can have."""
    try:
        # `{s}` and `{switch:a,b}` stand where a host's letters will be.
        parts = urlsplit(re.sub(r"\{[^}]*\}", "0", url))
        port = parts.port
    except ValueError as error:
        raise PlanError(f"{redact(url)} has no valid host and port") from error
    if not parts.hostname or port == 0:
        raise PlanError(f"{redact(url)} names no host")
