"""What a location asks of a WMS's layers besides their names: styles and dimensions, checked at the start."""

import difflib
import re
from collections.abc import Sequence

from tilehaul.codec.wms_capabilities import WmsDimension, WmsLayer
from tilehaul.errors import PlanError

# Means the layer's own style with many servers, whether they declare it or not.
STYLE_DEFAULT = "default"
# Names that are shown of a list.
SHOWN_MAX = 10
NAME_CHARS_MAX = 60
# So many are looked through for the nearest; a list of times may have a hundred thousand.
COMPARED_MAX = 2000

_AXIS = re.compile(r"time|elevation|dim_.+", re.IGNORECASE)
# Midnight and whole minutes may be written or left out; UTC has no other name here.
_ZEROS = re.compile(r"(?:T00(?::00(?::00(?:\.0+)?)?)?|(?<=T..:..):00(?:\.0+)?|\.0+)?Z?\Z")


def no_such(what: str, name: str, there: Sequence[str]) -> str:
    """One line about a name that is not there: the nearest, or the first few that are."""
    near = [
        shown_name(each) for each in difflib.get_close_matches(name, there[:COMPARED_MAX], n=3, cutoff=0.5)
    ]
    known = ", ".join(map(shown_name, there[:SHOWN_MAX])) + (", ..." if len(there) > SHOWN_MAX else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {known or 'none'}"
    return f"the service has no {what} {name[:60]!r}; {hint}"


def shown_name(name: str) -> str:
    """A name that a service wrote, printable and short."""
    return "".join(char if char.isprintable() else "?" for char in name[:NAME_CHARS_MAX])


def chosen_styles(asked: str, layers: Sequence[WmsLayer], extra: Sequence[tuple[str, str]]) -> str:
    """STYLES of a request: one a layer, an empty one for the layer's own.

    With an SLD, which brings styles of its own, names are not looked up. Raises PlanError for another number
    than there are layers, and for a style that the layer neither declares nor inherits.
    """
    if not asked:
        return "," * (len(layers) - 1)
    names = asked.split(",")
    if len(names) != len(layers):
        own = ",".join([*names, *[""] * len(layers)][: len(layers)])
        raise PlanError(
            f"styles={asked[:60]} is {len(names)} for {len(layers)} layers: write one for each, with nothing"
            f" for a layer's own, as in styles={own[:60]}"
        )
    if any(name.lower() in ("sld", "sld_body") for name, _ in extra):
        return asked
    for name, layer in zip(names, layers, strict=True):
        if name and name.lower() != STYLE_DEFAULT and name not in layer.styles:
            there = [style for style in dict.fromkeys(layer.styles) if style]
            raise PlanError(no_such(f"style for layer {layer.name[:60]}", name, there))
    return asked


def check_dimensions(extra: Sequence[tuple[str, str]], layers: Sequence[WmsLayer]) -> None:
    """Look at TIME, ELEVATION and DIM_... among the parameters (WMS 1.3.0, annex C).

    Raises:
        PlanError: No layer has that dimension; or a value is none of its list. A dimension with an interval,
            or whose server takes the nearest value, has no list.
    """
    declared = [each for layer in layers for each in layer.dimensions]
    for name, value in extra:
        if not _AXIS.fullmatch(name):
            continue
        axes = [each for each in declared if _plain(each.name) == _plain(name)]
        if not axes:
            there = list(dict.fromkeys(_parameter(each.name) for each in declared))
            raise PlanError(no_such("dimension", name, there))
        for part in value.split(","):
            if not any(_has(axis, part.strip()) for axis in axes):
                there = list(dict.fromkeys(word.strip() for axis in axes for word in axis.values.split(",")))
                raise PlanError(no_such(f"value of {name.upper()}", part.strip(), there))


def _plain(name: str) -> str:
    return name.lower().removeprefix("dim_")


def _parameter(name: str) -> str:
    """As it is written in a request."""
    plain = _plain(name)
    return plain.upper() if plain in ("time", "elevation") else f"DIM_{plain}"


def _has(axis: WmsDimension, value: str) -> bool:
    # An interval in the question is cut by the server.
    if not value or value.lower() == "current" or "/" in value or axis.nearest or "/" in axis.values:
        return True
    there = [word.strip() for word in axis.values.split(",") if word.strip()]
    return not there or any(_same(value, word) for word in there)


def _same(value: str, declared: str) -> bool:
    """Whether a value is meant by another spelling: `0` for `0.0`, a day or year for a moment of it."""
    if value.lower() == declared.lower():
        return True
    try:
        return float(value) == float(declared)
    except ValueError:
        pass
    short, long = (_ZEROS.sub("", text.upper()) for text in (value, declared))
    return bool(short) and long.startswith(short) and long[len(short) :][:1] in ("", "-", "T", ":", ".")
