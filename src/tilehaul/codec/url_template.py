"""An address with holes for the tile's numbers: read once, filled for every tile."""

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from tilehaul.codec.safe_url import is_secret_name, redact
from tilehaul.codec.sniff import media_type_of
from tilehaul.errors import ConfigError

SUBDOMAINS_DEFAULT = ("a", "b", "c")
# `@3x` and `@4x` exist on telephones' maps; nobody serves more.
RATIO_MAX = 4

# Zooms 0 to 30, as TileJSON counts them.
ZOOM_MAX = 30


class Address(Protocol):
    """What a template needs to know of a tile: `grid.tile_id.TileId` is one."""

    @property
    def z(self) -> int: ...

    @property
    def x(self) -> int: ...

    @property
    def y(self) -> int: ...

    @property
    def tms_y(self) -> int: ...

    @property
    def quadkey(self) -> str: ...

    @property
    def bounds_m(self) -> tuple[float, float, float, float]: ...


class _Sample(NamedTuple):
    """A tile of the top row of zoom 8, as far as a sample of an address needs it."""

    x: int
    y: int = 0
    z: int = 8
    tms_y: int = 255
    quadkey: str = "00000000"
    bounds_m: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


_Fill = Callable[[Address], object]


def _bbox_text(tile_id: Address) -> str:
    return "{!r},{!r},{!r},{!r}".format(*tile_id.bounds_m)


_FILLS: dict[str, _Fill] = {
    "z": lambda tile_id: tile_id.z,
    "x": lambda tile_id: tile_id.x,
    "y": lambda tile_id: tile_id.y,
    "-y": lambda tile_id: tile_id.tms_y,
    "q": lambda tile_id: tile_id.quadkey,
    "bbox-epsg-3857": _bbox_text,
}
_ALIASES = {"zoom": "z", "inv_y": "-y", "quadkey": "q"}
_KNOWN = (*_FILLS, *_ALIASES, "s", "r", "a-c", "switch:a,b")

_HOLE = re.compile(r"(\$?)\{([^{}]*)\}")
_SUBDOMAIN_RANGE = re.compile(r"([a-z])-([a-z])|([0-9])-([0-9])")
_MAPPROXY = re.compile(r"%\((\w+)\)s")
_MAPPROXY_NAMES = {
    "z": "{z}",
    "x": "{x}",
    "y": "{y}",
    "quadkey": "{quadkey}",
    "bbox": "{bbox-epsg-3857}",
    "tms_path": "{z}/{x}/{y}",
}
_ENDING = re.compile(r"\.([A-Za-z0-9]{2,5})\Z")


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A tile service's address; `parse_template` makes one.

    `shown` is for people, secrets masked. `identity` is 16 hexadecimal digits that stay the same
    when a key in the address changes, and differ when anything else does. `media_type` is a guess
    by the file ending, empty without one.
    """

    shown: str
    identity: str
    media_type: str
    # The address of one tile. The subdomain follows from column and row, so that caches meet it again.
    url: Callable[[Address], str] = field(compare=False, repr=False)
    # One address for every subdomain: names each host the template can reach. Not of real tiles.
    samples: tuple[str, ...]


def parse_template(
    text: str,
    *,
    ratio: int = 1,
    subdomains: Sequence[str] = SUBDOMAINS_DEFAULT,
    tms: bool = False,
    values: Mapping[str, str] | None = None,
) -> UrlTemplate:
    """Read a template.

    Holes: {z} {x} {y}; {-y} for rows counted from the south; {q} or {quadkey}; {bbox-epsg-3857}; {s}
    for one of the subdomains, which {a-c}, {1-4} or {switch:a,b} name in place; {r} for `@2x` at
    ratio 2, nothing at ratio 1. Aliases: {zoom}, {inv_y}. Everything else is taken as it stands.

    Args:
        text: The template; `${NAME}` must have been replaced before.
        ratio: Pixel ratio, 1..4.
        subdomains: For {s}; one at least.
        tms: {y} counts rows from the south.
        values: For holes of your own ({style}, {apikey}), percent-encoded. One whose name says that it
            is secret stays a hole in `shown`.

    Raises:
        ConfigError: An unknown hole (with the nearest known one), none for the tile's place, `%(z)s`
            (with its translation), a `${NAME}` left, white space, or a ratio or subdomain that is none.
    """
    _check_text(text)
    if not 1 <= ratio <= RATIO_MAX:
        raise ConfigError(f"pixel ratio {ratio} is not within 1..{RATIO_MAX}")
    own = dict(values or {})
    names: list[str] = []
    named_hosts: list[tuple[str, ...]] = []

    def literal(piece: str) -> str:
        if "{" in piece or "}" in piece:
            raise ConfigError(f"the template {redact(text)} has a brace without its other half")
        return piece

    pieces = [""]
    at = 0
    for found in _HOLE.finditer(text):
        pieces[-1] += literal(text[at : found.start()])
        at = found.end()
        name = found[2].strip()
        hosts = _named_subdomains(name)
        name = _ALIASES.get(name, name)
        if found[1]:
            raise ConfigError(f"${{{name}}} in the template is not set: define it in the environment")
        if name in own:
            pieces[-1] += quote(own[name], safe="")
        elif name == "r":
            pieces[-1] += "" if ratio == 1 else f"@{ratio}x"
        elif hosts or name == "s":
            named_hosts.append(hosts or tuple(subdomains))
            names.append("s")
            pieces.append("")
        elif name in _FILLS:
            names.append("-y" if tms and name == "y" else name)
            pieces.append("")
        else:
            raise ConfigError(_unknown(name, own))
    pieces[-1] += literal(text[at:])
    _check_place(names, text)
    if len(set(named_hosts)) > 1:
        raise ConfigError(f"the template {redact(text)} names two different lists of subdomains")
    hosts = named_hosts[0] if named_hosts else ()
    _check_subdomains(hosts, needed=bool(named_hosts))

    url = _filler(pieces, names, hosts)
    shown = redact(_HOLE.sub(lambda found: _shown_value(found, own), text))
    samples = tuple(url(_Sample(column)) for column in range(max(len(hosts), 1)))
    ending = _ENDING.search(_path(text, samples))
    return UrlTemplate(
        shown=shown,
        identity=hashlib.sha256(f"{shown} {ratio} {tms}".encode()).hexdigest()[:16],
        media_type=media_type_of(ending[1]) if ending else "",
        url=url,
        samples=samples,
    )


def _filler(pieces: Sequence[str], names: Sequence[str], hosts: Sequence[str]) -> Callable[[Address], str]:
    """What fills the holes `names` between the literal `pieces` (one more than holes)."""
    if names in (["z", "x", "y"], ["z", "y", "x"], ["s", "z", "x", "y"], ["s", "z", "y", "x"]):
        return _fast_filler(pieces, names, hosts)

    def subdomain(tile_id: Address) -> str:
        return hosts[(tile_id.x + tile_id.y) % len(hosts)]

    fills = [subdomain if name == "s" else _FILLS[name] for name in names]
    pattern = "%s".join(piece.replace("%", "%%") for piece in pieces)

    def filled(tile_id: Address) -> str:
        return pattern % tuple([fill(tile_id) for fill in fills])

    return filled


def _fast_filler(
    pieces: Sequence[str], names: Sequence[str], hosts: Sequence[str]
) -> Callable[[Address], str]:
    """The usual templates, with everything up to the zoom written out beforehand."""
    *start, after_z, between, end = pieces
    turned = names[-1] == "x"
    heads = [host.join(start) for host in hosts or ("",)]
    starts = [[f"{head}{z}{after_z}" for z in range(ZOOM_MAX + 1)] for head in heads]
    ways = len(starts)
    first = starts[0]

    def filled(tile_id: Address) -> str:
        return f"{first[tile_id.z]}{tile_id.x}{between}{tile_id.y}{end}"

    def filled_turned(tile_id: Address) -> str:
        return f"{first[tile_id.z]}{tile_id.y}{between}{tile_id.x}{end}"

    def filled_hosts(tile_id: Address) -> str:
        column, row = tile_id.x, tile_id.y
        begin = starts[(column + row) % ways][tile_id.z]
        return f"{begin}{row}{between}{column}{end}" if turned else f"{begin}{column}{between}{row}{end}"

    if ways > 1:
        return filled_hosts
    return filled_turned if turned else filled


def _shown_value(found: re.Match[str], own: Mapping[str, str]) -> str:
    name = found[2].strip()
    return quote(own[name], safe="") if name in own and not is_secret_name(name) else found[0]


def _check_text(text: str) -> None:
    if translated := _translated(text):
        raise ConfigError(f"the template is written for MapProxy; here it reads {redact(translated)}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in text):
        raise ConfigError(f"the template {redact(text)} has white space or a control character in it")


def _translated(text: str) -> str:
    """A MapProxy template in our own form; empty when it is none."""
    if not _MAPPROXY.search(text):
        return ""
    return _MAPPROXY.sub(lambda found: _MAPPROXY_NAMES.get(found[1], "{" + found[1] + "}"), text)


def _path(text: str, samples: Iterable[str]) -> str:
    """The path of the template; ConfigError unless each sample is an address."""
    try:
        for sample in samples:
            _ = urlsplit(sample).port
        return urlsplit(text.replace("{r}", "")).path
    except ValueError as error:
        # What it says may repeat a password: `https://user:pass/word@host` has a port of that name.
        raise ConfigError(
            f"the template {redact(text)} is no address: see to brackets, port, a / in a password"
        ) from error


def _named_subdomains(name: str) -> tuple[str, ...]:
    """The subdomains that `a-c`, `1-4` or `switch:a,b` spell out; none for other names."""
    if name.startswith("switch:"):
        return tuple(part.strip() for part in name.removeprefix("switch:").split(","))
    found = _SUBDOMAIN_RANGE.fullmatch(name)
    if found is None:
        return ()
    first, last = name[0], name[2]
    return tuple(chr(code) for code in range(ord(first), ord(last) + 1)) or ("",)


def _check_subdomains(subdomains: Sequence[str], *, needed: bool) -> None:
    if needed and not subdomains:
        raise ConfigError("the template has {s}, but the list of subdomains is empty")
    for name in subdomains:
        # A list from a configuration file must not be able to write another host or path.
        if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,61}[A-Za-z0-9])?", name):
            raise ConfigError(f"{name!r} is no subdomain; write {{s}}, {{a-c}} or {{switch:a,b}}")


def _check_place(names: Sequence[str], text: str) -> None:
    has = set(names)
    if has & {"q", "bbox-epsg-3857"} or ({"z", "x"} <= has and has & {"y", "-y"}):
        return
    missing = [name for name in ("z", "x", "y") if name not in has and not (name == "y" and "-y" in has)]
    listed = ", ".join("{" + name + "}" for name in missing)
    raise ConfigError(f"the template {redact(text)} lacks {listed}: without it every tile has one address")


def _unknown(name: str, own: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name.lower(), (*_KNOWN, *own), n=1, cutoff=0.5)
    known = ", ".join(f"{{{each}}}" for each in _KNOWN)
    hint = f"did you mean {{{near[0]}}}?" if near else f"known are {known}"
    return f"the template has an unknown variable {{{name}}}; {hint}"
