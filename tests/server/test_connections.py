"""The number of open connections is bounded, and the longest silent one makes room."""

import asyncio
import logging

import pytest

from tilehaul.errors import ConfigError
from tilehaul.server.app import Server
from tilehaul.server.connections import (
    BACKLOG_MAX,
    CONNECTIONS_MAX,
    PROBES_MAX,
    WARNING_EVERY_S,
    OpenConnections,
    backlog_of,
    connections_max_of,
    files_max,
)

AT = "/api/tiles/osm/3/1/2.png"
BODY = b"\x89PNG picture"


class Guest:
    def __init__(self, deadline_s=0.0, *, busy=False):
        self.deadline_s = deadline_s
        self.busy = busy
        self.gone = False

    def abort(self):
        self.gone = True


def gone(guests):
    return [at for at, guest in enumerate(guests) if guest.gone]


def test_longest_silent_makes_room():
    """The one whose patience ends first goes, whoever came first; those just heard of stay."""
    doors = OpenConnections(3)
    guests = [Guest(30.0 + at) for at in range(4)]
    for guest in guests[:3]:
        doors.enter(guest, 0.0)
    assert gone(guests) == []
    guests[0].deadline_s = 90.0
    doors.enter(guests[3], 1.0)
    assert gone(guests) == [1]
    assert (len(doors), doors.turned_away) == (3, 1)


def test_busy_ones_are_spared_and_then_the_newcomer_goes():
    """A request on its way is never cut for somebody who has not asked yet."""
    doors = OpenConnections(2)
    guests = [Guest(1.0, busy=True), Guest(2.0), Guest(3.0), Guest(4.0), Guest(5.0)]
    for guest in guests[:3]:
        doors.enter(guest, 0.0)
    assert gone(guests) == [1]
    guests[2].busy = True
    doors.enter(guests[3], 0.0)
    assert gone(guests) == [1, 3]
    guests[0].busy = False
    doors.enter(guests[4], 0.0)
    assert gone(guests) == [0, 1, 3]
    assert len(doors) == 2


def test_looking_for_room_is_bounded():
    """Among thousands of busy ones only a few are looked at, and the next time others are."""
    doors = OpenConnections(PROBES_MAX * 2)
    guests = [Guest(busy=True) for _ in range(PROBES_MAX * 2)]
    guests[PROBES_MAX + 3].busy = False
    for guest in guests:
        doors.enter(guest, 0.0)
    first, second = Guest(), Guest()
    doors.enter(first, 0.0)
    assert first.gone
    doors.enter(second, 0.0)
    assert not second.gone
    assert gone(guests) == [PROBES_MAX + 3]


def test_leaving_makes_room_and_leaving_twice_is_no_harm():
    """Who has left is not closed again, and takes no place."""
    doors = OpenConnections(2)
    guests = [Guest(float(at)) for at in range(3)]
    doors.enter(guests[0], 0.0)
    doors.enter(guests[1], 0.0)
    doors.leave(guests[0])
    doors.leave(guests[0])
    doors.enter(guests[2], 0.0)
    assert gone(guests) == []


def test_warning_comes_once_a_minute(caplog):
    """A flood is told, and does not flood the log."""
    doors = OpenConnections(1)
    for now_s in (0.0, 0.0, 1.0, WARNING_EVERY_S - 1, WARNING_EVERY_S + 1):
        doors.enter(Guest(), now_s)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert "more than 1 connections" in told[0]
    assert "(4 so far)" in told[1]


@pytest.mark.parametrize(
    ("files", "connections", "backlog"),
    [
        (None, CONNECTIONS_MAX, BACKLOG_MAX),
        (1024, 512, 256),
        (20_000, CONNECTIONS_MAX, BACKLOG_MAX),
        (10_000, 5_000, BACKLOG_MAX),
        (3, 1, 1),
        (1, 1, 1),
    ],
)
def test_limit_leaves_files_for_everything_else(files, connections, backlog):
    """All that may be accepted in one go fits beside what is open, or accepting itself would fail."""
    assert connections_max_of(files) == connections
    assert backlog_of(connections, files) == backlog


def test_files_max_is_the_systems_word():
    """A number above the connections this test needs, or none on systems without such a limit."""
    files = files_max()
    assert files is None or files > 10


async def flood(service):
    """Twelve silent connections against a limit of four: who is still answered."""
    service.layer().put("3/1/2", BODY)
    lines = []
    async with Server(service.build(), port=0, connections_max=4) as server:
        port = int(server.url.rpartition(":")[2])
        for _ in range(12):
            lines.append(await asyncio.open_connection("127.0.0.1", port))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {AT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        await reader.readexactly(len(BODY))
        closed = [await asyncio.wait_for(line[0].read(), 2) for line in lines[:9]]
        open_now = len(server._uvicorn.server_state.connections)
        for _, each in [*lines, (reader, writer)]:
            each.close()
    return head, closed, open_now


def check_flood(outcome):
    head, closed, open_now = outcome
    assert head.startswith(b"HTTP/1.1 200 ")
    assert closed == [b""] * 9
    assert open_now == 4


async def test_silent_flood_does_not_keep_others_out(service):
    """The next client is served; the oldest silent connections were closed for it."""
    check_flood(await flood(service))


def test_silent_flood_does_not_keep_others_out_on_uvloop(service):
    """The same on the loop that serves in earnest."""
    uvloop = pytest.importorskip("uvloop", reason="no uvloop on this platform")
    check_flood(uvloop.run(flood(service)))


async def test_who_has_left_takes_no_place(service, listen):
    """Many clients one after another push nobody out."""
    service.layer()
    connect = await listen(service, connections_max=2)
    stays = await connect()
    assert (await stays.ask("/health/live")).status == 200
    state = connect.server._uvicorn.server_state
    for _ in range(5):
        line = await connect()
        assert (await line.ask("/health/live")).status == 200
        line.writer.close()
        while len(state.connections) > 1:
            await asyncio.sleep(0.001)
    assert (await stays.ask("/health/live")).status == 200


async def test_waiting_request_is_not_cut_for_a_newcomer(service, listen):
    """With every place taken by a request on its way, the newcomer is closed and the requests end well."""
    source = service.layer()
    source.put("3/1/2", BODY)
    source.hold = asyncio.Event()
    connect = await listen(service, connections_max=1)
    line = await connect()
    line.send(AT)
    await source.reached.wait()
    late = await connect()
    assert await asyncio.wait_for(late.closed(), 2)
    source.hold.set()
    assert (await line.read()).body == BODY


async def test_impossible_limit_is_a_wrong_setting(service):
    """At least one connection, or nobody could ever ask."""
    service.layer()
    with pytest.raises(ConfigError, match="connections_max"):
        Server(service.build(), connections_max=0)
