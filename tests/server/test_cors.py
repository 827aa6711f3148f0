"""Which pages may read what."""

import pytest

from tilehaul.errors import ConfigError
from tilehaul.jobs.serve_tile import PUBLIC_HEADERS
from tilehaul.server.cors import HEADERS_ALLOWED, Cors

AT = "/api/tiles/osm/3/1/2.png"
OURS, THEIRS = "https://maps.example.com", "https://other.example"
BATCH = "/api/tiles/osm/batch?tiles=3/1/2.png"
PUBLIC = [
    AT,
    "/api/tiles/osm/3/1/3.png",
    "/api/tiles/osm",
    BATCH,
    "/api/layers",
    "/wmts",
    "/nothing",
    "/openapi.json",
]


def page(origin, **more):
    return [("Origin", origin), *((name.replace("_", "-"), value) for name, value in more.items())]


@pytest.fixture
def few(service):
    """Two sites may."""
    service.layer().put("3/1/2", b"\x89PNG picture")
    service.build(cors=Cors([OURS, "http://localhost:3000"]))
    return service


@pytest.mark.parametrize("path", PUBLIC)
async def test_by_default_every_page_may_read_what_is_public(service, path):
    service.layer().put("3/1/2", b"\x89PNG picture")
    for headers in ([], page(THEIRS)):
        told = (await service.ask(path, headers=headers)).headers
        assert told["access-control-allow-origin"] == "*"
        assert "Origin" not in told.get("vary", "")


@pytest.mark.parametrize("path", PUBLIC)
async def test_only_the_sites_that_are_named_may(few, path):
    """Caches on the way keep an answer for each site."""
    may = (await few.ask(path, headers=page(OURS))).headers
    assert may["access-control-allow-origin"] == OURS
    for headers in ([], page(THEIRS), page("null"), page(OURS + ".evil"), page(OURS.upper())):
        told = (await few.ask(path, headers=headers)).headers
        assert not any(name.startswith("access-control-") for name in told)
        assert told["vary"].endswith("Origin")
    assert may["vary"].endswith("Origin")


@pytest.mark.parametrize("accept", ["multipart/mixed", "application/x-tar"])
async def test_streams_are_no_other(few, accept):
    for origin, told in ((OURS, OURS), (THEIRS, None)):
        answer = await few.ask(BATCH, headers=page(origin, Accept=accept))
        assert answer.headers.get("access-control-allow-origin") == told


@pytest.mark.parametrize("path", [AT, "/api/tiles/osm/3/1/3.png"])
async def test_a_hit_before_routing_tells_what_routing_tells(few, listen, path):
    connect = await listen(few)
    line = await connect()
    await line.ask(path)
    named = [("X-Request-Id", "mine")]
    for told in ([], page(OURS), page(THEIRS), page(OURS, If_None_Match="*")):
        headers = [*told, *named]
        early = await line.ask(path, headers=headers)
        late = await (await connect()).ask(path, headers=headers, version="1.0")
        assert early.headers["cache-status"].startswith("tilehaul; hit")
        for answer in (early, late):
            answer.headers.pop("date")
            answer.headers.pop("connection", None)
        assert early == late


@pytest.mark.parametrize("path", PUBLIC[:1] + PUBLIC[2:6])
async def test_leave_to_send_a_key_is_given_to_the_same_sites(few, path):
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "x-api-key"}
    may = await few.ask(path, method="OPTIONS", headers=page(OURS, **asked))
    assert (may.status, may.body) == (204, b"")
    assert may.headers["access-control-allow-origin"] == OURS
    assert may.headers["vary"] == "Origin"
    assert may.headers["access-control-allow-headers"] == HEADERS_ALLOWED
    assert may.headers["access-control-allow-methods"] == "GET, HEAD"
    not_ = await few.ask(path, method="OPTIONS", headers=page(THEIRS, **asked))
    assert not_.status == 204
    assert not any(name.startswith("access-control-") for name in not_.headers)
    assert few.sources["osm"].asked == []


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/0123abcd", "/api/tiles/osm/cache", "/", "/docs"])
async def test_no_leave_for_what_changes_the_service_or_is_a_page_of_it(service, path):
    service.layer()
    asked = {"Access_Control_Request_Method": "DELETE"}
    answer = await service.ask(path, method="OPTIONS", headers=page(OURS, **asked))
    assert answer.status == 405
    assert "access-control-allow-methods" not in answer.headers


async def test_an_answer_that_is_for_no_page_becomes_for_none(few):
    """Their headers say nothing of other pages, whatever the list."""
    assert "access-control-allow-origin" not in (await few.ask("/", headers=page(OURS))).headers


@pytest.mark.parametrize(
    "bad",
    ["maps.example.com", "https://maps.example.com/", "https://*.example.com", "https://Maps.example", ""],
)
def test_an_origin_is_written_as_browsers_write_it(bad):
    with pytest.raises(ConfigError, match=r"server\.cors"):
        Cors([bad])


def test_nobody_at_all():
    assert Cors([]).applied((*PUBLIC_HEADERS, ("vary", "Host")), OURS) == (
        ("x-content-type-options", "nosniff"),
        ("vary", "Host, Origin"),
    )
