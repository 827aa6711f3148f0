"""Many tiles in one answer: each has an outcome of its own, and the first need not wait for the last."""

import asyncio
import base64
import email
import io
import json
import tarfile

import pytest

from tilehaul.errors import BrokenError, DeniedError
from tilehaul.grid.tile_id import TileId
from tilehaul.server.tile_routes import ADDRESS_CHARS_MAX

AT = "/api/tiles/osm/batch"


def asking(*addresses):
    return AT + "?" + "&".join(f"tiles={address}" for address in addresses)


@pytest.fixture
def source(service):
    source = service.layer()
    for x in range(4):
        source.put(f"3/{x}/2", f"tile {x}".encode())
    source.fail("3/5/2", BrokenError("secret address", cause="http_500"))
    return source


async def test_each_address_has_its_outcome(service, source):
    """Tiles by address in base64, errors with status and cause; one bad tile fails no other."""
    answer = await service.ask(
        asking("3/0/2.png", "3/1/2.jpg", "3/5/2.png", "3/6/2.png", "nonsense", "3/9/2.png")
    )
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json()
    assert (told["layer"], told["count"]) == ("osm", 2)
    assert {at: base64.b64decode(body) for at, body in told["tiles"].items()} == {
        "osm/3/0/2.png": b"tile 0",
        "osm/3/1/2.jpg": b"tile 1",
    }
    assert told["errors"] == {
        "osm/3/5/2.png": {"status": 502, "cause": "http_500"},
        "osm/3/6/2.png": {"status": 404, "cause": "absent"},
        "osm/nonsense": {"status": 400, "cause": "bad_request"},
        "osm/3/9/2.png": {"status": 400, "cause": "bad_request"},
    }
    assert told["cache_stats"]["cache_misses"] == 4
    assert b"secret" not in answer.body


async def test_same_tile_is_asked_for_once(service, source):
    """By whatever names it goes; each address is answered once."""
    told = (await service.ask(asking("3/0/2.png", "3/0/2.png", "3/0/2.jpg", "03/0/2.png"))).json()
    assert set(told["tiles"]) == {"osm/3/0/2.png", "osm/3/0/2.jpg", "osm/03/0/2.png"}
    assert len(source.asked) == 1


async def test_tiles_are_asked_for_at_once(service, source):
    """All of them are on their way before the first has come."""
    source.hold = asyncio.Event()
    asked = asyncio.create_task(service.ask(asking(*(f"3/{x}/2.png" for x in range(4)))))
    while len(source.asked) < 4:
        await asyncio.sleep(0)
    source.hold.set()
    assert (await asked).json()["count"] == 4


@pytest.mark.parametrize(
    "path",
    [AT, asking(*(f"8/{x}/2.png" for x in range(101))), asking(*(["3/0/2.png"] * 101))],
)
async def test_batch_has_its_size(service, source, path):
    """None, or more than a hundred: 400, and nothing is asked for."""
    answer = await service.ask(path)
    assert (answer.status, answer.json()["cause"]) == (400, "bad_request")
    assert source.asked == []


async def test_long_address_is_an_error_of_its_own(service, source):
    long = "3/0/2." + "p" * ADDRESS_CHARS_MAX
    told = (await service.ask(asking(long, "3/0/2.png"))).json()
    assert (told["count"], told["errors"][f"osm/{long}"]["status"]) == (1, 400)


async def test_what_has_not_come_by_the_deadline_is_late(service, source):
    """The rest is answered; the late ones are 504, and their fetches given up."""
    service.build()
    service.app._routes.tiles.deadline_s = 0.01
    await service.ask("/api/tiles/osm/3/0/2.png")
    source.hold = asyncio.Event()
    told = (await service.ask(asking("3/0/2.png", "3/1/2.png"))).json()
    assert list(told["tiles"]) == ["osm/3/0/2.png"]
    assert told["errors"] == {"osm/3/1/2.png": {"status": 504, "cause": "timeout_total"}}
    assert len(source.cancelled) == 1


async def test_transparent_layer_has_no_absences(service):
    """As the tile's own address says."""
    service.layer(missing="transparent")
    told = (await service.ask(asking("3/0/2.png"))).json()
    assert (told["count"], told["errors"]) == (1, {})


async def test_multipart_has_bytes_and_the_tiles_own_headers(service, source):
    answer = await service.ask(
        asking("3/0/2.png", "3/6/2.png", "3/1/2.png"), headers=[("Accept", "multipart/mixed, */*;q=0.1")]
    )
    parsed = email.message_from_bytes(
        b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.body
    )
    *tiles, last = parsed.get_payload()
    assert {part["content-location"]: part.get_payload(decode=True) for part in tiles} == {
        "/api/tiles/osm/3/0/2.png": b"tile 0",
        "/api/tiles/osm/3/1/2.png": b"tile 1",
    }
    assert {part["content-type"] for part in tiles} == {"image/png"}
    assert all(part["etag"] and part["x-tile-source"] == "origin" for part in tiles)
    told = json.loads(last.get_payload())
    assert (told["count"], told["errors"]) == (2, {"osm/3/6/2.png": {"status": 404, "cause": "absent"}})
    assert told["cache_stats"]["total_requests"] == 3


async def test_tar_unpacks(service, source):
    answer = await service.ask(asking("3/0/2.png", "x"), headers=[("Accept", "application/x-tar")])
    assert answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    told = json.loads(files.pop("batch.json"))
    assert files == {"osm/3/0/2.png": b"tile 0"}
    assert told["errors"] == {"osm/x": {"status": 400, "cause": "bad_request"}}


@pytest.mark.parametrize("accept", ["multipart/mixed", "application/x-tar"])
async def test_stream_begins_before_the_last_tile_is_in(service, source, listen, accept):
    """The first tile is with the client while the second is still on its way."""
    await service.ask("/api/tiles/osm/3/0/2.png")
    connect = await listen(service)
    line = await connect()
    source.hold = asyncio.Event()
    line.send(asking("3/0/2.png", "3/1/2.png"), headers=[("Accept", accept)])
    await line.reader.readuntil(b"tile 0")
    assert not source.hold.is_set()
    source.hold.set()
    await line.reader.readuntil(b"tile 1")
    assert service.app.tiles_waiting == 0


@pytest.mark.parametrize("accept", ["multipart/mixed", "application/json"])
async def test_client_that_leaves_ends_its_fetches(service, source, listen, accept):
    """Nothing is fetched for nobody, and nothing goes on counting as waiting."""
    connect = await listen(service)
    line = await connect()
    source.hold = asyncio.Event()
    line.send(asking("3/0/2.png", "3/1/2.png"), headers=[("Accept", accept)])
    while len(source.asked) < 2:
        await asyncio.sleep(0.001)
    assert service.app.tiles_waiting == 2
    line.writer.close()
    while len(source.cancelled) < 2 or service.app.tiles_waiting:
        await asyncio.sleep(0.001)


async def test_of_a_batch_without_room_only_what_is_here_is_given(service, source):
    """Load is shed before anything is begun at the origin; a tile in memory costs nothing."""
    service.build(tiles_waiting_max=2)
    assert (await service.ask("/api/tiles/osm/3/2/2.png")).status == 200
    answer = await service.ask(asking("3/0/2.png", "3/1/2.png", "3/2/2.png"))
    told = answer.json()
    assert list(told["tiles"]) == ["osm/3/2/2.png"]
    assert {error["cause"] for error in told["errors"].values()} == {"busy"}
    assert len(told["errors"]) == 2
    assert source.asked == [TileId(3, 2, 2)]
    assert (await service.ask(asking("3/0/2.png", "3/1/2.png"))).json()["count"] == 2


async def test_failures_are_counted(service, source):
    source.fail("3/4/2", DeniedError("x", cause="http_403"))
    await service.ask(asking("3/5/2.png", "3/4/2.png", "nonsense"))
    assert service.layers["osm"].stats.errors == {"http_500": 1, "http_403": 1}


async def test_unknown_layer(service, source):
    assert (await service.ask("/api/tiles/other/batch?tiles=1/0/0.png")).status == 404


async def test_head_fetches_nothing(service, source):
    answer = await service.ask(asking("3/0/2.png"), method="HEAD")
    assert (answer.status, answer.body, source.asked) == (200, b"", [])
    assert "content-length" not in answer.headers, "it is not known"
    assert answer.headers["cache-control"] == "no-store"


async def test_tiles_nobody_has_taken_yet_do_not_wait_for_origins(service, source):
    """A client that reads slowly, or not at all, takes no place of others."""
    app, held = service.build(), asyncio.Event()
    scope = {"type": "http", "method": "GET", "path": "/api/tiles/osm/batch", "scheme": "http"}
    scope |= {
        "query_string": b"&".join(b"tiles=3/%d/2.png" % x for x in range(8)),
        "client": ("127.0.0.1", 5),
    }
    scope |= {"headers": [(b"accept", b"application/x-tar")], "root_path": "", "asgi": {"version": "3.0"}}
    scope |= {"http_version": "1.1", "raw_path": b"", "server": ("127.0.0.1", 80)}

    async def send(message):
        if message["type"] == "http.response.body":
            held.set()
            await asyncio.Event().wait()

    reading = asyncio.create_task(app(scope, asyncio.Event().wait, send))
    await held.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(source.asked) == 8
    assert app.tiles_waiting == 0
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert app.tiles_waiting == 0
