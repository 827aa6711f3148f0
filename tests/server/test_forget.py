"""DELETE /api/tiles/LAYER/cache: who may, and what goes."""

import pytest

from tilehaul.errors import StorageError


@pytest.fixture
async def filled(service):
    """Three tiles of `osm` and one of `other` in memory, and a service that may be emptied."""
    for name in ("osm", "other"):
        source = service.layer(name)
        for address in ("3/0/0", "3/7/7", "2/0/0"):
            source.put(address)

    async def forget(layer, wanted):
        return service.cache.forget(layer, wanted)

    service.build(forget=forget)
    for address in ("3/0/0", "3/7/7", "2/0/0"):
        await service.ask(f"/api/tiles/osm/{address}.png")
    await service.ask("/api/tiles/other/2/0/0.png")
    return service


@pytest.mark.parametrize(
    ("query", "forgotten"),
    [
        ("", 3),
        ("?zooms=3", 2),
        ("?bbox=-180,0,-1,85", 2),
        ("?bbox=-180,0,-1,85&zooms=0-2", 1),
        ("?bbox=10,10,20,20", 0),
    ],
)
async def test_wanted_tiles_go_and_no_others(filled, query, forgotten):
    answer = await filled.ask(f"/api/tiles/osm/cache{query}", method="DELETE")
    assert (answer.status, answer.json()) == (200, {"layer": "osm", "forgotten": forgotten})
    assert filled.cache.stats().tiles == 4 - forgotten


@pytest.mark.parametrize(
    "query", ["?bbox=1,2,3", "?bbox=0,50,10,40", "?zooms=40", "?zoom=3", "?bbox=a,b,c,d"]
)
async def test_nonsense_forgets_nothing(filled, query):
    answer = await filled.ask(f"/api/tiles/osm/cache{query}", method="DELETE")
    assert (answer.status, filled.cache.stats().tiles) == (400, 4)


async def test_another_sites_page_may_not(filled):
    headers = [("Sec-Fetch-Site", "cross-site")]
    answer = await filled.ask("/api/tiles/osm/cache", method="DELETE", headers=headers)
    assert (answer.status, answer.json()["cause"]) == (403, "forbidden")
    answer = await filled.ask("/api/tiles/osm/cache", method="DELETE", host="evil.example")
    assert (answer.status, filled.cache.stats().tiles) == (403, 4)


@pytest.mark.parametrize(
    ("headers", "status"),
    [([], 401), ([("Authorization", "Bearer wrong")], 401), ([("Authorization", "Bearer k3y")], 200)],
)
async def test_key_is_wanted_where_there_is_one(service, headers, status):
    service.layer()

    async def forget(layer, wanted):
        return 0

    service.build(forget=forget, admin_key="k3y")
    answer = await service.ask("/api/tiles/osm/cache", method="DELETE", headers=headers)
    assert answer.status == status


async def test_nobody_may_where_nobody_is_known(service):
    """Reachable from elsewhere and without a key: refused, with what to set."""
    service.layer()
    answer = await service.ask("/api/tiles/osm/cache", method="DELETE")
    assert answer.status == 403
    assert "server.admin_key" in answer.json()["error"]


async def test_disk_that_refuses_is_told_without_its_path(service):
    service.layer()

    async def forget(layer, wanted):
        raise StorageError("/secret/path is full")

    service.build(forget=forget)
    answer = await service.ask("/api/tiles/osm/cache", method="DELETE")
    assert answer.status == 500
    assert b"secret" not in answer.body


async def test_getting_it_is_another_thing(filled):
    assert (await filled.ask("/api/tiles/osm/cache")).status == 405
