"""`/openapi.json` and `/docs`, both written from the table that answers requests."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from http import HTTPStatus
from typing import Any

import msgspec

from tilehaul import __version__
from tilehaul.grid.tile_id import ZOOM_MAX
from tilehaul.jobs.layer import LAYER_NAME
from tilehaul.jobs.serve_tile import EXTENSION_KINDS
from tilehaul.server.batch_encodings import JSON
from tilehaul.server.entries import Entry, Key

_SCHEMES: Mapping[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The admin's, the jobs' or a layer's key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "A layer's key."},
    "query": {"type": "apiKey", "in": "query", "name": "key", "description": "A layer's key."},
}
_SECURITY: Mapping[Key, list[dict[str, list[str]]]] = {
    "layer": [{}, {"bearer": []}, {"header": []}, {"query": []}],
    "admin": [{}, {"bearer": []}],
    "jobs": [{}, {"bearer": []}],
}
_ENDINGS = "|".join(EXTENSION_KINDS)
_NUMBER = {"type": "integer", "minimum": 0}
# By the names that paths have for them.
_PATH_PARAMETERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "layer": ("Name of a layer.", {"type": "string", "pattern": f"^{LAYER_NAME.pattern}$"}),
    "z": ("Zoom.", {**_NUMBER, "maximum": ZOOM_MAX}),
    "x": ("Column.", _NUMBER),
    "row": ("Row, from the north.", _NUMBER),
    "file": (
        "Row (WMTS: column) and format.",
        {"type": "string", "pattern": f"^[0-9]{{1,10}}\\.({_ENDINGS})$"},
    ),
    "style": ("Style.", {"type": "string", "enum": ["default"]}),
    "set": ("Tile matrix set.", {"type": "string", "enum": ["GoogleMapsCompatible"]}),
    "job": ("Name of a job.", {"type": "string", "pattern": "^[0-9a-f]{8}$"}),
    "name": ("Name of a file.", {"type": "string"}),
}
_ERROR = {
    "type": "object",
    "required": ["success", "error", "cause", "request_id"],
    "properties": {
        "success": {"const": False},
        "error": {"type": "string"},
        "cause": {"type": "string"},
        "request_id": {"type": "string"},
    },
}


def openapi(entries: Iterable[Entry]) -> dict[str, Any]:
    """The document (OpenAPI 3.1) of these addresses."""
    paths: dict[str, dict[str, Any]] = {}
    bodies = []
    for entry in entries:
        path = re.sub(r":[a-z]+\}", "}", entry.path)
        paths.setdefault(path, {})[entry.method.lower()] = _operation(entry, path)
        if entry.body is not None:
            bodies.append(entry.body)
    _, schemas = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "tilehaul", "version": __version__, "description": "Map tiles."},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, **schemas}, "securitySchemes": dict(_SCHEMES)},
    }


def docs_page(document: Mapping[str, Any]) -> bytes:
    """The same as a plain page, UTF-8."""
    rows = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = "".join(
                f"<li><code>{escape(one['name'])}</code> {escape(one['description'])}</li>"
                for one in operation.get("parameters", ())
            )
            told = "".join(
                f"<li><code>{status}</code> {escape(_told(answer))}</li>"
                for status, answer in operation["responses"].items()
            )
            rows.append(
                f"<section><h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>"
                f"<p>{escape(operation['summary'])}</p>"
                f"<div><ul>{parameters}</ul><ul>{told}</ul></div></section>"
            )
    title = f"{document['info']['title']} {document['info']['version']}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: addresses</title>"
        '<link rel="icon" type="image/svg+xml" href="/static/favicon.svg">'
        '<link rel="stylesheet" href="/static/docs.css"></head><body><main>'
        f'<h1>{escape(title)}</h1><p>For programs: <a href="/openapi.json">openapi.json</a>. '
        'The map: <a href="/">here</a>.</p>'
        f"{''.join(rows)}</main></body></html>\n"
    ).encode()


def _told(answer: Mapping[str, Any]) -> str:
    kinds = ", ".join(answer.get("content", ()))
    return f"{answer['description']}: {kinds}" if kinds else str(answer["description"])


def _operation(entry: Entry, path: str) -> dict[str, Any]:
    named = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name][0],
            "schema": _PATH_PARAMETERS[name][1],
        }
        for name in re.findall(r"\{([a-z]+)\}", path)
    ]
    queries = [
        {
            "name": query.name,
            "in": "query",
            "required": query.required,
            "description": query.text,
            "schema": dict(query.schema),
        }
        for query in entry.queries
    ]
    answers = {**entry.answers, 429: (JSON,)}
    if entry.key is not None:
        answers[401] = (JSON,)
    operation: dict[str, Any] = {
        "summary": entry.summary,
        "parameters": named + queries,
        "responses": {str(status): _response(status, kinds) for status, kinds in sorted(answers.items())},
    }
    if entry.key is not None:
        operation["security"] = _SECURITY[entry.key]
    if entry.body is not None:
        schema = {"$ref": f"#/components/schemas/{entry.body.__name__}"}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _response(status: int, kinds: tuple[str, ...]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kinds:
        error = {"schema": {"$ref": "#/components/schemas/Error"}} if status >= 400 else {}
        told["content"] = {kind: error if kind == JSON else {} for kind in kinds}
    return told


def openapi_text(document: Mapping[str, Any]) -> bytes:
    """The document as it is sent."""
    return json.dumps(document, separators=(",", ":")).encode()
