"""A provider by its name: what `xyzservices` knows of it becomes an XYZ source."""

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl

from tilehaul.codec.url_template import SUBDOMAINS_DEFAULT, UrlTemplate, parse_template
from tilehaul.config.locations import Location
from tilehaul.errors import PlanError
from tilehaul.grid.tile_id import ZOOM_MAX
from tilehaul.ports.source import WORLD_DEG
from tilehaul.sources.xyz import BODY_BYTES_MAX, Headers, XyzOpener, XyzSource, describe_template

# What a catalog entry says beside the values of its template's holes.
_ABOUT = frozenset({"url", "name", "attribution", "html_attribution", "subdomains", "bounds", "min_zoom"})
# An entry writes so where the operator's own key belongs.
_UNFILLED = "<insert"
_MERCATOR = ("", "EPSG3857", "EPSG:3857")


def xyz_opener(place: Location, *, headers: Headers = ()) -> XyzOpener:
    """The source at an `xyz` or `provider` location, but its sender. Raises PlanError, ConfigError."""
    if place.kind == "xyz":
        return XyzSource.opener(place.text, headers=headers)
    name, entry, typed = _entry_of(place)
    template = _template(name, entry, typed)
    low, high = int(entry.get("min_zoom", 0)), int(entry.get("max_zoom", ZOOM_MAX))
    info = describe_template(
        template,
        name=name,
        zoom_min=low,
        zoom_max=min(high, ZOOM_MAX),
        bounds_deg=_bounds(entry.get("bounds")),
        attribution=str(entry.get("attribution", "")),
    )
    return XyzOpener(template, info, headers, "tile", BODY_BYTES_MAX)


def xyz_urls(place: Location) -> tuple[str, ...]:
    """One address for every host that an `xyz` or `provider` location can reach. Raises as `xyz_opener`."""
    return xyz_opener(place).typed_urls


def catalog() -> Mapping[str, Mapping[str, Any]]:
    """The library's entries by name. Raises PlanError when it is not installed."""
    try:
        library = importlib.import_module("xyzservices")
    except ImportError as error:
        raise PlanError(
            "a provider by its name needs xyzservices: pip install 'tilehaul[providers]'"
        ) from error
    entries: Mapping[str, Mapping[str, Any]] = library.providers.flatten()
    return entries


def _entry_of(place: Location) -> tuple[str, Mapping[str, Any], dict[str, str]]:
    name, _, query = place.text.partition(":")[2].partition("?")
    entries = catalog()
    by_lower = {each.lower(): each for each in entries}
    known = by_lower.get(name.lower())
    if known is None:
        near = [by_lower[each] for each in get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
        raise PlanError(
            f'no provider "{name[:60]}" is known' + (f": did you mean {', '.join(near)}?" if near else "")
        )
    return known, entries[known], dict(parse_qsl(query))


def _template(name: str, entry: Mapping[str, Any], typed: Mapping[str, str]) -> UrlTemplate:
    if str(entry.get("crs", "")) not in _MERCATOR:
        raise PlanError(f"{name} is in {entry['crs']}: only Web Mercator is read")
    if entry.get("zoomOffset"):
        raise PlanError(f"{name} counts its zooms from {entry['zoomOffset']}, which is not read")
    url = str(entry["url"])
    values = {key: str(value) for key, value in entry.items() if key not in _ABOUT} | dict(typed)
    values = {key: value for key, value in values.items() if "{" + key + "}" in url}
    unused = [key for key in typed if key not in values]
    if unused:
        raise PlanError(f"{name} takes no {unused[0][:40]}")
    for key, value in values.items():
        if _UNFILLED in value:
            raise PlanError(f"{name} needs a key of yours: provider:{name}?{key}=...")
    subdomains = tuple(entry.get("subdomains") or SUBDOMAINS_DEFAULT)
    return parse_template(url, subdomains=subdomains, tms=bool(entry.get("tms")), values=values)


def _bounds(said: Any) -> tuple[float, float, float, float]:
    """Entries say [[south, west], [north, east]]."""
    if not said:
        return WORLD_DEG
    (south, west), (north, east) = said
    return (
        max(float(west), WORLD_DEG[0]),
        max(float(south), WORLD_DEG[1]),
        min(float(east), WORLD_DEG[2]),
        min(float(north), WORLD_DEG[3]),
    )
