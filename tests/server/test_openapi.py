"""`/openapi.json` and `/docs` are written from the table that answers."""

import json
import re

import pytest

from tilehaul import __version__
from tilehaul.config.job_request import JobRequest


def documented(service):
    return json.loads(service.app._routes.pages["openapi.json"].body)


def addresses(document):
    """Each method and a path that can be asked."""
    given = {"layer": "osm", "z": "3", "x": "1", "row": "2", "file": "2.png", "style": "default"}
    given |= {"set": "GoogleMapsCompatible", "job": "0123abcd", "name": "map.js"}
    for path, methods in document["paths"].items():
        for method in methods:
            yield method.upper(), re.sub(r"\{(\w+)\}", lambda match: given[match[1]], path), methods[method]


@pytest.fixture
def open_one(service):
    service.layer().put("3/1/2", b"\x89PNG picture")
    service.build()
    return service


def test_every_address_that_answers_is_in_it_and_no_other(open_one):
    paths = {
        (method.upper(), path)
        for path, methods in documented(open_one)["paths"].items()
        for method in methods
    }
    answered = {
        (method, route.path.replace(":path", ""))
        for route in open_one.app._routes.table()
        for method in route.methods
        if method not in ("HEAD", "OPTIONS")
    }
    assert paths == answered
    assert len(paths) >= 27


async def test_every_address_answers_with_a_status_and_a_type_that_are_told(open_one):
    """None of them lets a browser guess, and what is a page says what it may load."""
    for method, path, operation in addresses(documented(open_one)):
        answer = await open_one.ask(path, method=method)
        told = operation["responses"][str(answer.status)]
        kind = answer.headers.get("content-type", "").partition(";")[0]
        assert kind in (told.get("content") or {""}), (method, path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        if kind == "text/html":
            assert "script" not in answer.headers["content-security-policy"] or path == "/"
            assert "default-src" in answer.headers["content-security-policy"]


async def test_names_in_it_are_the_code_s_own(open_one):
    document = (await open_one.ask("/openapi.json")).json()
    assert document["info"]["version"] == __version__
    body = document["paths"]["/api/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert set(schema["properties"]) == set(JobRequest.__struct_fields__)
    for _, _, operation in addresses(document):
        assert "429" in operation["responses"]
        assert ("401" in operation["responses"]) == ("security" in operation)
        assert operation["summary"].endswith(".")


async def test_page_for_people_has_every_address_and_nothing_from_elsewhere(open_one):
    answer = await open_one.ask("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    page = answer.body.decode()
    for path in documented(open_one)["paths"]:
        assert f"<code>{path}</code>" in page
    assert "<script" not in page
    assert "style=" not in page
    for link in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert (await open_one.ask(link)).status == 200
    again = await open_one.ask("/docs", headers=[("If-None-Match", answer.headers["etag"])])
    assert again.status == 304


async def test_files_made_for_an_address_of_their_own_have_no_other(open_one):
    for name in ("docs", "openapi.json"):
        assert (await open_one.ask(f"/static/{name}")).status == 404
