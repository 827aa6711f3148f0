"""429 at the door: before routing, before hits, each client for itself (scenario 53, `client-flood`)."""

import logging

import pytest

from tilehaul.codec.limit_fields import parse_limit_fields
from tilehaul.config.load import parse_settings
from tilehaul.config.settings import ServerSettings
from tilehaul.errors import ConfigError
from tilehaul.policy.rate import RateRule
from tilehaul.server.meter import Meter, meter_of

AT = "/api/tiles/osm/3/1/2.png"
BODY = b"\x89PNG picture"


def of(address):
    return [("X-Forwarded-For", address)]


FLOOD, CALM = of("203.0.113.7"), of("198.51.100.9")


@pytest.fixture
def metered(service):
    """A service that believes the test like a proxy; three requests at once, one a second."""
    source = service.layer()
    source.put("3/1/2", BODY)
    service.build(meter=Meter(RateRule(1.0, burst=3), ["127.0.0.1"], service.now_s))
    return service


async def test_53_client_flood(metered, listen, caplog):
    """What one client sends too much is answered 429 and reaches nothing; another finds all as ever."""
    line = await (await listen(metered))()
    layer = metered.layers["osm"].stats
    caplog.set_level(logging.WARNING)
    statuses = [(await line.ask(f"/api/tiles/osm/9/{x}/2.png", headers=FLOOD)).status for x in range(100)]
    assert statuses == [404] * 3 + [429] * 97
    assert (len(metered.sources["osm"].asked), layer.hits + layer.misses) == (3, 3)
    calm = [await line.ask(AT, headers=CALM) for _ in range(3)]
    assert [answer.status for answer in calm] == [200] * 3
    assert [answer.body for answer in calm] == [BODY] * 3
    metered.clock.time_s += 2.0
    assert [(await line.ask(AT, headers=FLOOD)).status for _ in range(3)] == [200, 200, 429]
    told = [record.getMessage() for record in caplog.records if "client_rate" in record.getMessage()]
    assert told == ["clients ask for more than server.client_rate: 1 requests were answered 429 so far"]
    assert "tilehaul_clients_refused_total 98.0" in (await line.ask("/metrics")).body.decode()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("version", "extra"), [("1.1", []), ("1.0", []), ("1.1", [("Content-Length", "0")])])
async def test_the_answer_says_when_to_come_back(metered, listen, method, version, extra):
    """The body of every error, and fields that our own parser reads; at the door or behind it."""
    connect = await listen(metered)
    for _ in range(3):
        await (await connect()).ask(AT, headers=FLOOD, version="1.0")
    answer = await (await connect()).ask(AT, method=method, headers=[*FLOOD, *extra], version=version)
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.headers["cache-control"] == "no-store"
    quota = parse_limit_fields(answer.headers, wall_s=0.0).quota
    assert (quota.remaining, quota.reset_s) == (0, 1.0)
    assert answer.headers["ratelimit-policy"] == '"client";q=1;w=1'
    if method == "GET":
        told = answer.json()
        assert {name: told[name] for name in ("success", "cause")} == {
            "success": False,
            "cause": "client_limit",
        }
        assert told["request_id"] == answer.headers["x-request-id"] == "id-1"


async def test_answers_stay_in_order_and_the_connection_open(metered, listen):
    """Pipelined behind a tile that is still on its way: the 429 comes after it."""
    line = await (await listen(metered))()
    for path in ("/health/live", AT, AT, AT, "/health/live", AT):
        line.send(path, headers=FLOOD)
    assert [(await line.read()).status for _ in range(6)] == [200, 200, 200, 429, 429, 429]
    metered.clock.time_s += 1.0
    assert (await line.ask(AT, headers=FLOOD)).status == 200


async def test_a_tile_of_a_batch_is_a_request(metered, listen):
    line = await (await listen(metered))()
    batch = "/api/tiles/osm/batch?" + "&".join(f"tiles=3/{x}/2.png" for x in range(5))
    assert (await line.ask(batch, headers=FLOOD)).status == 200
    refused = await line.ask(AT, headers=FLOOD)
    assert (refused.status, refused.headers["retry-after"]) == (429, "3")
    metered.clock.time_s += 3.0
    assert (await line.ask(AT, headers=FLOOD)).status == 200


async def test_a_body_of_a_request_too_many_is_no_request(metered, listen):
    line = await (await listen(metered))()
    for _ in range(3):
        await line.ask(AT, headers=FLOOD)
    line.writer.write(
        b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\nContent-Length: 40\r\n\r\n"
    )
    line.writer.write(b"GET /api/layers HTTP/1.1\r\nHost: x\r\n\r\n".ljust(40))
    assert (await line.read()).status == 429
    assert (await line.ask("/health/live")).status == 200


async def test_who_is_not_limited(metered, listen):
    """The proxy's own requests."""
    line = await (await listen(metered))()
    assert {(await line.ask(AT)).status for _ in range(20)} == {200}
    assert len(metered.app.meter.limits) == 0


async def test_without_trust_a_header_changes_nothing(service, listen):
    """This machine itself, not limited, whatever it says."""
    service.layer().put("3/1/2", BODY)
    service.build(meter=Meter(RateRule(1.0, burst=1), [], service.now_s))
    line = await (await listen(service))()
    assert {(await line.ask(AT, headers=FLOOD)).status for _ in range(20)} == {200}
    assert len(service.app.meter.limits) == 0


def test_a_peer_from_elsewhere_is_counted_by_its_own_address(service):
    meter = Meter(RateRule(1.0, burst=1), [], service.now_s)
    caller = meter.caller("203.0.113.7")
    state = {}
    told = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-request-id", b"mine")]
    assert meter.judge(caller, "203.0.113.7", told, state, str) is None
    assert state == {"counted": (meter, "203.0.113.7")}
    refused = meter.judge(caller, "203.0.113.7", told, {}, str)
    assert (refused.status, dict(refused.headers)["x-request-id"]) == (429, "mine")


@pytest.mark.parametrize(
    ("per_s", "policy"), [(200.0, "q=200;w=1"), (0.2, "q=1;w=5"), (1.5, "q=1;w=1"), (0.3, "q=1;w=4")]
)
def test_the_policy_is_told_in_whole_numbers(per_s, policy):
    meter = Meter(RateRule(per_s), [], lambda: 0.0)
    assert dict(meter.refusal(0.1, "id").headers)["ratelimit-policy"] == f'"client";{policy}'


def test_settings_of_the_limit():
    assert meter_of(ServerSettings(client_rate=0.0), float) is None
    made = meter_of(ServerSettings(), float)
    assert (made.limits.rule.per_s, made.limits.rule.burst) == (200.0, 400)
    with pytest.raises(ConfigError, match=r"server\.trusted_proxies"):
        parse_settings({"server": {"trusted_proxies": ["proxy"]}}, {})
