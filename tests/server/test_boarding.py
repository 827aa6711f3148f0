"""Askers of a tile on its way: one fetch, no task each, and the answer that the usual way would give."""

import asyncio

import pytest

from tilehaul.errors import BrokenError
from tilehaul.policy.freshness import FreshnessRule
from tilehaul.policy.keyring import ApiKey, hash_of
from tilehaul.policy.rate import RateRule
from tilehaul.server.meter import Meter

AT = "/api/tiles/osm/3/1/2.png"
OTHER = "/api/tiles/osm/3/1/3.png"
BODY = b"\x89PNG" + bytes(range(256)) * 8


async def on_its_way(service, listen, *, layer=None, **options):
    """A service that is asked by a first client for a tile which its source holds back."""
    source = service.layer(**(layer or {}))
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    service.build(**options)
    connect = await listen(service)
    first = await connect()
    first.send(AT)
    await source.reached.wait()
    return source, connect, first


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


def tasks(connect):
    """Requests that the application has."""
    return len(connect.server._uvicorn.server_state.tasks)


async def crowd(service, connect, count, path=AT, **asked):
    lines = [await connect() for _ in range(count)]
    waiting = service.app.tiles_waiting
    for line in lines:
        line.send(path, **asked)
    await until(lambda: service.app.tiles_waiting == waiting + count)
    return lines


async def test_a_crowd_is_one_request_and_one_task(service, listen):
    """All get what the first gets, who went the usual way; all are counted as the usual way counts."""
    source, connect, first = await on_its_way(service, listen)
    lines = await crowd(service, connect, 20)
    # uvicorn's private door (`_start_asgi_task`) is still where a request gets its task.
    assert tasks(connect) == 1
    source.hold.set()
    answers = [await line.read() for line in (first, *lines)]
    assert source.asked == source.asked[:1]
    for answer in answers:
        answer.headers.pop("date")
    assert answers == [answers[0]] * 21
    assert (answers[0].status, answers[0].body) == (200, BODY)
    assert answers[0].headers["cache-status"].startswith("tilehaul; fwd=miss; stored")
    stats, kept = service.layers["osm"].stats, service.cache.stats()
    assert (stats.hits, stats.misses, stats.coalesced) == (0, 21, 20)
    assert (kept.hits, kept.misses) == (0, 21)
    assert service.app.tiles_waiting == 0
    # The same connections go on.
    assert [(await line.ask(AT)).headers["x-tile-source"] for line in lines] == ["memory"] * 20


@pytest.mark.parametrize("missing", [404, 204, "transparent"])
async def test_an_absent_tile_is_told_as_the_usual_way_tells_it(service, listen, missing):
    source, connect, first = await on_its_way(service, listen, layer={"missing": missing})
    source.answers.clear()
    (line,) = await crowd(service, connect, 1)
    (head,) = await crowd(service, connect, 1, method="HEAD")
    source.hold.set()
    answers = [await first.read(), await line.read(), await head.read(head=True)]
    for answer in answers:
        answer.headers.pop("date")
    assert answers[0] == answers[1]
    assert (answers[2].status, answers[2].headers) == (answers[0].status, answers[0].headers)
    assert len(source.asked) == 1


async def test_one_who_leaves_disturbs_nobody_and_the_last_ends_the_fetch(service, listen):
    source, connect, first = await on_its_way(service, listen)
    lines = await crowd(service, connect, 3)
    first.writer.close()
    lines[0].writer.close()
    await until(lambda: service.app.tiles_waiting == 2)
    assert not source.cancelled
    for line in lines[1:]:
        line.writer.close()
    await until(lambda: service.app.tiles_waiting == 0)
    await until(lambda: len(source.cancelled) == 1)
    source.hold.set()
    assert (await (await connect()).ask(AT)).body == BODY
    assert len(source.asked) == 2


async def test_the_first_may_leave(service, listen):
    """The fetch is nobody's: who boarded gets it."""
    source, connect, first = await on_its_way(service, listen)
    (line,) = await crowd(service, connect, 1)
    first.writer.close()
    await until(lambda: service.app.tiles_waiting == 1)
    source.hold.set()
    assert (await line.read()).body == BODY
    assert (len(source.asked), source.cancelled) == (1, [])


async def test_an_error_reaches_all_and_is_asked_for_once(service, listen):
    source, connect, first = await on_its_way(service, listen)
    source.fail("3/1/2", BrokenError("status 500", cause="server"))
    lines = await crowd(service, connect, 4, headers=[("X-Request-Id", "mine")])
    source.hold.set()
    answers = [await line.read() for line in (first, *lines)]
    assert [(answer.status, answer.json()["cause"]) for answer in answers] == [(502, "server")] * 5
    assert [answer.headers["x-request-id"] for answer in answers] == ["id-1", *["mine"] * 4]
    assert len(source.asked) == 1
    stats = service.layers["osm"].stats
    assert (stats.misses, stats.errors) == (5, {"server": 5})


async def test_a_defect_is_told_and_logged_and_the_next_is_answered(service, listen, caplog):
    source, connect, first = await on_its_way(service, listen)
    source.fail("3/1/2", ZeroDivisionError("ours"))
    (line,) = await crowd(service, connect, 1)
    source.hold.set()
    assert [((await each.read()).status) for each in (first, line)] == [500, 500]
    assert caplog.text.count("a request failed") == 2
    source.put("3/1/2", BODY)
    assert (await line.ask(AT)).body == BODY


async def test_who_has_waited_too_long_is_told_so(service, listen):
    source, connect, first = await on_its_way(service, listen, deadline_s=0.05)
    (line,) = await crowd(service, connect, 1)
    answers = [await first.read(), await line.read()]
    assert [(answer.status, answer.json()["cause"]) for answer in answers] == [(504, "timeout_total")] * 2
    await until(lambda: len(source.cancelled) == 1)
    assert (service.app.tiles_waiting, service.layers["osm"].stats.errors) == (0, {"timeout_total": 2})


async def test_answers_leave_in_the_order_of_the_questions(service, listen):
    """A question behind one that has boarded waits, also when its own tile is in memory."""
    source, connect, first = await on_its_way(service, listen)
    service.cache.keep("osm", await kept(service))
    (line,) = await crowd(service, connect, 1)
    line.send(OTHER)
    line.send(AT)
    await asyncio.sleep(0.01)
    source.hold.set()
    answers = [await line.read() for _ in range(3)]
    assert [answer.body for answer in answers] == [BODY, b"other", BODY]
    assert (await first.read()).body == BODY


async def kept(service):
    """Another tile, as memory keeps it."""
    source = service.sources["osm"]
    source.put("3/1/3", b"other")
    hold, source.hold = source.hold, None
    try:
        await service.ask(OTHER)
        return service.cache.look_now("osm", source.asked[-1])
    finally:
        source.hold = hold


async def test_a_connection_that_is_to_close_closes(service, listen):
    source, connect, _ = await on_its_way(service, listen)
    (line,) = await crowd(service, connect, 1, headers=[("Connection", "close")])
    (old,) = await crowd(service, connect, 1, version="1.0")
    source.hold.set()
    for each in (line, old):
        answer = await each.read()
        assert (answer.body, answer.headers["connection"]) == (BODY, "close")
        assert await each.closed()


async def test_no_more_wait_than_may(service, listen):
    source, connect, first = await on_its_way(service, listen, tiles_waiting_max=2)
    (line,) = await crowd(service, connect, 1)
    refused = await (await connect()).ask(AT)
    assert (refused.status, refused.json()["cause"]) == (503, "busy")
    source.hold.set()
    assert [(await each.read()).status for each in (first, line)] == [200, 200]


async def test_a_stale_tile_is_given_and_not_waited_past(service, listen):
    rule = FreshnessRule(tile_s=10.0, revalidate_s=60.0)
    source = service.layer(rule=rule)
    source.put("3/1/2", BODY)
    connect = await listen(service)
    line = await connect()
    await line.ask(AT)
    service.clock.time_s += 20.0
    source.hold = asyncio.Event()
    source.reached.clear()
    assert (await line.ask(AT)).headers["cache-status"].startswith("tilehaul; hit")
    await source.reached.wait()
    # It is being renewed now.
    assert (await line.ask(AT)).headers["cache-status"].startswith("tilehaul; hit")
    assert len(source.asked) == 2
    source.hold.set()


async def test_a_private_tile_on_its_way_is_none_for_others(service, listen):
    keys = [ApiKey("a", hash_of(b"open"), frozenset({"osm"}))]
    source = service.layer(private=True)
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    service.build(keys=keys)
    connect = await listen(service)
    told = [("X-Api-Key", "open")]
    first = await connect()
    first.send(AT, headers=told)
    await source.reached.wait()
    (line,) = await crowd(service, connect, 1, headers=told)
    assert (await (await connect()).ask(AT)).status == 404
    assert (await (await connect()).ask(AT, headers=[("X-Api-Key", "wrong")])).status == 401
    source.hold.set()
    assert (await line.read()).headers["cache-control"].startswith("private")
    await first.read()


async def test_each_is_counted_against_its_clients_limit(service, listen):
    meter = Meter(RateRule(1.0, burst=1), ["127.0.0.1"], service.now_s)
    source, connect, first = await on_its_way(service, listen, meter=meter)
    told = [("X-Forwarded-For", "203.0.113.7")]
    (line,) = await crowd(service, connect, 1, headers=told)
    assert (await (await connect()).ask(AT, headers=told)).status == 429
    source.hold.set()
    assert [(await each.read()).status for each in (first, line)] == [200, 200]


async def test_a_stopping_server_lets_them_have_their_answer(service, listen):
    source, connect, first = await on_its_way(service, listen)
    (line,) = await crowd(service, connect, 1)
    stopping = asyncio.create_task(connect.server.stop())
    await asyncio.sleep(0.02)
    assert not stopping.done()
    source.hold.set()
    answers = [await each.read() for each in (first, line)]
    assert [(answer.body, answer.headers["connection"]) for answer in answers] == [(BODY, "close")] * 2
    await stopping


async def test_unlike_questions_of_one_tile(service, listen):
    """HEAD, a tag that matches, a kind that is not the tile's: each its own answer of one fetch."""
    source, connect, first = await on_its_way(service, listen)
    (head,) = await crowd(service, connect, 1, method="HEAD")
    (same,) = await crowd(service, connect, 1, headers=[("If-None-Match", "*")])
    (vector,) = await crowd(service, connect, 1, path=AT.replace("png", "mvt"))
    source.hold.set()
    whole = await first.read()
    assert (await head.read(head=True)).headers["content-length"] == str(len(whole.body))
    unchanged = await same.read()
    assert (unchanged.status, unchanged.headers["etag"]) == (304, whole.headers["etag"])
    assert "content-length" not in unchanged.headers
    wrong = await vector.read()
    assert (wrong.status, "picture tiles: ask for .png" in wrong.json()["error"]) == (400, True)
    assert len(source.asked) == 1
