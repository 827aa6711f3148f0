"""The layers that a vector archive's `json` row names (MBTiles 1.3, "Vector tileset metadata").

Others wrote that row: whatever is wrong in it counts as not said.
"""

import json
from typing import Any

# Rows with statistics of every attribute reach some hundred KiB; above this nothing is parsed.
JSON_CHARS_MAX = 4 * 1024 * 1024


def vector_layers_of(json_row: str) -> str:
    """The row's `vector_layers` as JSON text, as `SourceInfo.vector_layers` keeps it; empty without any."""
    return _text(_layers(_parsed(json_row)))


def json_row_of(vector_layers: str) -> str:
    """The `json` row that names these layers, given as in `SourceInfo.vector_layers`; empty for none."""
    return f'{{"vector_layers": {vector_layers}}}' if vector_layers else ""


def merged_json_row(old: str, new: str) -> str:
    """The old row with what only the new one has: layers by `id`, and members beside the layers."""
    before, after = _parsed(old), _parsed(new)
    kept = _layers(before)
    known = {layer["id"] for layer in kept}
    added = [layer for layer in _layers(after) if layer["id"] not in known]
    if not added:
        return old or new
    return _text({**after, **before, "vector_layers": [*kept, *added]}) or old


def _layers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Objects with an `id`, and with the `fields` that TileJSON 3.0 (3.3) demands."""
    named = document.get("vector_layers")
    if not isinstance(named, list):
        return []
    layers = [layer for layer in named if isinstance(layer, dict) and isinstance(layer.get("id"), str)]
    return [layer if isinstance(layer.get("fields"), dict) else {**layer, "fields": {}} for layer in layers]


def _parsed(text: str) -> dict[str, Any]:
    if not text or len(text) > JSON_CHARS_MAX:
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: object) -> str:
    """Strict JSON that UTF-8 can carry; empty for nothing, and for what JSON has no word for."""
    if not value:
        return ""
    try:
        # Python reads NaN and lone surrogates, which no other reader of ours would take.
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return ""
    return text.encode("utf-8", "replace").decode()
