"""`/metrics` is read by the format's own parser, and says what the other answers say."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from server.over_http import running
from tilehaul.errors import BrokenError
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.lane import LaneSnapshot, ProcessFigures

WORLD = {"source": "world", "store": "world", "bbox": [-180, -85, 180, 85], "zooms": "0-2"}


def samples(body, read=read_plain):
    found = {}
    for family in read(body.decode()):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


async def test_the_figures_of_a_layer_are_those_of_its_statistics(service):
    """Requests, hits, misses, errors by cause, fetches and their time, the cache."""
    source = service.layer("osm")
    source.put("3/1/2", b"\x89PNG picture")
    source.fail("3/1/4", BrokenError("http://secret.example/", cause="http_503"))
    for y in (2, 2, 2, 4):
        await service.ask(f"/api/tiles/osm/3/1/{y}.png")
    answer = await service.ask("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    told = samples(answer.body)
    osm = ("layer", "osm")
    assert told["tilehaul_tile_requests_total", osm] == 4
    assert told["tilehaul_tile_hits_total", osm] == 2
    assert told["tilehaul_tile_misses_total", osm] == 2
    assert told["tilehaul_tile_errors_total", ("cause", "http_503"), osm] == 1
    assert told["tilehaul_tile_fetch_time_seconds_count", osm] == 2
    assert told["tilehaul_cache_tiles", osm] == 1
    assert told["tilehaul_cache_bytes_max",] == 256_000_000
    assert b"secret.example" not in answer.body
    assert b"3/1/" not in answer.body


async def test_lanes_are_numbered_and_their_states_told(service):
    """Never by the name, which holds the origin's host."""
    lane = LaneSnapshot(
        "tiles.example.com (tile)", "tile", 7, 3, 2, gate="held", requests=9, causes={"server": 4}
    )
    service.layer("osm", lanes=lambda: (lane,))
    service.build(process=lambda: ProcessFigures(3, 11))
    answer = await service.ask("/metrics")
    told = samples(answer.body)
    one = (("lane", "1"), ("layer", "osm"))
    assert [told[f"tilehaul_lane_{name}", *one] for name in ("limit", "in_flight", "queue_depth")] == [
        7,
        3,
        2,
    ]
    states = {
        state: told["tilehaul_lane_gate", *one, ("state", state)] for state in ("open", "held", "parked")
    }
    assert states == {"open": 0, "held": 1, "parked": 0}
    assert told["tilehaul_lane_breaker", *one, ("state", "closed")] == 1
    assert told["tilehaul_lane_requests_total", *one] == 9
    assert told["tilehaul_lane_causes_total", ("cause", "server"), *one] == 4
    assert (told["tilehaul_threads",], told["tilehaul_origin_connections",]) == (3, 11)
    assert b"example.com" not in answer.body


async def test_openmetrics_for_those_who_accept_it(service):
    """Its own parser is strict: it refuses a wrong name, order or end."""
    service.layer("osm")
    accept = [("Accept", "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")]
    answer = await service.ask("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert samples(answer.body, read_open)["tilehaul_tile_requests_total", ("layer", "osm")] == 0


async def test_without_a_cache_there_are_no_figures_of_one(uncached):
    """Nothing is made up."""
    uncached.layer("osm")
    assert b"tilehaul_cache" not in (await uncached.ask("/metrics")).body


async def test_jobs_are_counted_once_from_their_events(tmp_path):
    """The bytes of the counter are those of the reports, also after a second job and a second look."""
    with MockThread(MockSettings()) as origin:
        async with running(origin.template, tmp_path) as service:
            written = 0
            for store in ("one", "two"):
                job = (await service.ask("POST", "/api/jobs", {**WORLD, "store": store})).json()["id"]
                written += (await service.follow(job))[-1][1]["report"]["bytes"]
                # The parser checks nothing twice; the second look must not count again.
                first = samples((await service.ask("GET", "/metrics")).body)
                told = samples((await service.ask("GET", "/metrics")).body)
                assert first["tilehaul_jobs_bytes_total", ("layer", "world")] == written > 0
                assert told["tilehaul_jobs_bytes_total", ("layer", "world")] == written
    assert told["tilehaul_jobs_ended_total", ("layer", "world"), ("state", "complete")] == 2
    assert told["tilehaul_jobs_running",] == 0
