"""Seeds over HTTP: they run for real, are followed by many, end on request only, and take no addresses."""

import asyncio
import logging

import pytest

import tilehaul
from server.over_http import read_head, running
from tilehaul.config.job_request import JobRequest
from tilehaul.config.load import parse_settings
from tilehaul.errors import ConfigError, PlanError
from tilehaul.jobs.followed import RING_MAX, RunningJob
from tilehaul.jobs.stop import CANCEL, DRAIN
from tilehaul.lab.faults import Faults
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.ports.events import LaneHeld, Progress
from tilehaul.server.job_routes import BODY_BYTES_MAX
from tilehaul.wiring.running_jobs import RunningJobs

WORLD = {"source": "world", "store": "world.mbtiles", "bbox": [-180, -85, 180, 85], "zooms": "0-3"}
# 341 tiles, at a pace that leaves time to look at the job.
SLOW = {**WORLD, "zooms": "0-4", "rate_limit": 300}
AREA = tilehaul.Area.from_bbox(-180, -85, 180, 85, zooms=range(2))
JSON = ("Content-Type", "application/json")


@pytest.fixture
def origin():
    with MockThread(MockSettings()) as server:
        yield server


def moving(data):
    return data.get("event") == "job.progress" and data["done"] > 0


async def test_a_job_over_http_seeds_for_real(origin, tmp_path):
    """Every tile is asked for once, the counts of stream, job and origin are the same."""
    async with running(origin.template, tmp_path) as service:
        answer = await service.ask("POST", "/api/jobs", WORLD)
        told = answer.json()
        assert (answer.status, answer.headers["location"]) == (202, f"/api/jobs/{told['id']}")
        assert (told["state"], told["planned"]) == ("running", None)
        events = await service.follow(told["id"])
        job = (await service.ask("GET", f"/api/jobs/{told['id']}")).json()
        listed = (await service.ask("GET", "/api/jobs")).json()["jobs"]
    assert events[0][1]["event"] == "job.started"
    last = events[-1][1]
    assert (last["type"], last["state"], last["report"]["done"]) == ("complete", "complete", 85)
    assert (job["state"], job["planned"]) == ("complete", 85)
    assert (job["report"]["done"], job["report"]["requests"]) == (85, 85)
    assert listed == [job]
    assert origin.stats().requests == 85
    assert (tmp_path / "world.mbtiles").is_file()


async def test_events_have_rising_ids_and_come_again_after_the_last_one_seen(origin, tmp_path):
    """Last-Event-ID: what came after it; at the end 204, so that a browser stays away."""
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", WORLD)).json()["id"]
        events = await service.follow(job)
        ids = [number for number, _ in events]
        again = await service.follow(job, last=ids[0])
        ended = await service.ask("GET", f"/api/jobs/{job}/events", headers=[("Last-Event-ID", str(ids[-1]))])
        # A number of an earlier service: all there is.
        strange = await service.follow(job, last=ids[-1] + 1000)
    assert ids == sorted(set(ids))
    assert again[-1] == events[-1]
    assert all(number > ids[0] for number, _ in again)
    assert strange[0][0] == ids[0]
    assert (ended.status, ended.body) == (204, b"")


async def test_a_stream_says_what_proxies_and_browsers_need(origin, tmp_path):
    """Not buffered, not cached, not readable by pages of other sites."""
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", WORLD)).json()["id"]
        head = await service.ask("HEAD", f"/api/jobs/{job}/events")
        one = await service.ask("GET", f"/api/jobs/{job}")
    assert (head.headers["cache-control"], head.headers["x-accel-buffering"]) == ("no-cache", "no")
    for answer in (head, one):
        assert not any(name.startswith("access-control-") for name in answer.headers)


async def test_a_broken_stream_ends_no_job(origin, tmp_path):
    """Who follows may leave: the job goes on to its end."""
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", SLOW)).json()["id"]
        first = await service.follow(job, until=moving)
        assert first[-1][1]["done"] < 341
        rest = await service.follow(job, last=first[-1][0])
    assert rest[-1][1]["report"]["done"] == 341
    assert origin.stats().requests == 341


async def test_delete_drains_and_the_same_job_goes_on(origin, tmp_path):
    """What is committed stays; the second run asks for the rest alone. Both have one store, not at once."""
    async with running(origin.template, tmp_path, running_max=1) as service:
        job = (await service.ask("POST", "/api/jobs", SLOW)).json()["id"]
        await service.follow(job, until=moving)
        same = await service.ask("POST", "/api/jobs", SLOW)
        other = await service.ask("POST", "/api/jobs", {**SLOW, "store": "other"})
        deleted = await service.ask("DELETE", f"/api/jobs/{job}")
        last = (await service.follow(job))[-1][1]
        again = (await service.ask("POST", "/api/jobs", {**SLOW, "rate_limit": None})).json()["id"]
        end = (await service.follow(again))[-1][1]
    assert (same.status, same.json()["cause"]) == (409, "conflict")
    assert (other.status, other.headers["retry-after"]) == (503, "30")
    assert (deleted.status, deleted.json()["state"]) == (202, "draining")
    assert (last["type"], last["state"]) == ("complete", "interrupted")
    assert 0 < last["report"]["pending"] < 341
    assert (end["state"], end["report"]["done"]) == ("complete", 341)
    assert end["report"]["requests"] == last["report"]["pending"]
    assert origin.stats().requests == last["report"]["requests"] + end["report"]["requests"] == 341


async def test_lanes_of_a_running_job_are_told_and_go_with_it(origin, tmp_path):
    """In figures, metrics and health, behind the name of its store, beside the layer's own lanes."""
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", SLOW)).json()["id"]
        await service.follow(job, until=moving)
        stats = (await service.ask("GET", "/api/stats")).json()
        lanes = stats["lanes"]["world"]
        metrics = (await service.ask("GET", "/metrics")).body.decode()
        running_jobs = service.jobs.jobs
        await service.ask("DELETE", f"/api/jobs/{job}")
        await service.follow(job)
        gone = running_jobs[job].lanes()
    assert stats["jobs"] == {"running": 1, "key": False}
    assert [lane["name"] for lane in lanes] == ["world world.mbtiles 1"]
    assert lanes[0]["requests"] > 0
    assert 'tilehaul_lane_requests_total{lane="world.mbtiles 1",layer="world"}' in metrics
    assert gone == ()


async def test_a_service_that_stops_drains_its_jobs(origin, tmp_path):
    """The next service goes on where this one ended."""
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", SLOW)).json()["id"]
        await service.follow(job, until=moving)
        await service.jobs.aclose()
        refused = await service.ask("POST", "/api/jobs", WORLD)
        assert service.jobs.jobs[job].state == "interrupted"
    assert refused.status == 503
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", {**SLOW, "rate_limit": None})).json()["id"]
        assert (await service.follow(job))[-1][1]["state"] == "complete"
    assert origin.stats().requests == 341


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "http://127.0.0.1/{z}/{x}/{y}.png"}, "no such layer"),
        ({"source": "../world"}, "no such layer"),
        ({"store": "../out.mbtiles"}, "plain name"),
        ({"store": "/etc/out.mbtiles"}, "plain name"),
        ({"store": "s3://bucket/x"}, "plain name"),
        ({"store": "world.mbtiles.part"}, "plain name"),
        ({"store": "world.mbtiles\n"}, "plain name"),
        ({"bbox": [5, 44, 500, 48]}, "longitude is within 180"),
        ({"bbox": [1e999, 0, 1, 1]}, "no job"),
        ({"bbox": None}, "one of bbox, bboxes and region"),
        ({"bboxes": [[0, 0, 1, 1]]}, "one of bbox, bboxes and region"),
        ({"bbox": None, "bboxes": []}, "no job"),
        ({"bbox": None, "bboxes": [[0, 0, 1, 1]] * 101}, "no job"),
        ({"bbox": None, "bboxes": [[0, 0, 1, 1], [0, 0, 500, 1]]}, "longitude is within 180"),
        ({"region": {"type": "Point", "coordinates": [0, 0]}, "bbox": None}, ""),
        ({"zooms": "0-22"}, "jobs.tiles_max"),
        ({"zooms": "0-99"}, "zoom"),
        ({"max_failures": "101%"}, "max_failures"),
        ({"headers": {"Cookie": "x"}}, "headers"),
        ({"deadline": -1}, "deadline"),
    ],
)
async def test_what_is_no_job_is_refused_and_nothing_is_sent(origin, tmp_path, change, said):
    """No address, no path, no absurd area, no unknown key."""
    async with running(origin.template, tmp_path) as service:
        answer = await service.ask("POST", "/api/jobs", {**WORLD, **change})
        assert not service.jobs.jobs
    assert answer.status == 400, answer.body
    assert said.encode() in answer.body
    assert origin.stats().requests == 0
    assert list(tmp_path.iterdir()) == []


async def test_pages_of_other_sites_huge_bodies_and_no_json_are_refused(origin, tmp_path):
    """What a browser may send for a stranger's page is not what starts a job."""
    nested = b"[" * 100_000
    async with running(origin.template, tmp_path) as service:
        statuses = [
            (await service.ask("POST", "/api/jobs", body, headers)).status
            for body, headers in [
                (WORLD, [("Content-Type", "text/plain")]),
                (WORLD, [JSON, ("Host", "evil.example.com")]),
                (WORLD, [JSON, ("Sec-Fetch-Site", "cross-site")]),
                (b" " * (BODY_BYTES_MAX + 1), [JSON]),
                (nested, [JSON]),
                (b"\xff", [JSON]),
            ]
        ]
        unknown = await service.ask("DELETE", "/api/jobs/none")
        assert not service.jobs.jobs
    assert statuses == [415, 403, 403, 413, 400, 400]
    assert unknown.status == 404


async def test_the_key_is_asked_for_everywhere(origin, tmp_path):
    """Without it nobody starts, sees or ends a job."""
    async with running(origin.template, tmp_path, key="s3kr1t-of-the-jobs") as service:
        right = [("Authorization", "Bearer s3kr1t-of-the-jobs")]
        for wrong in (
            [],
            [("Authorization", "Bearer s3kr1")],
            [("Authorization", "Basic s3kr1t-of-the-jobs")],
        ):
            for method, path in (
                ("POST", ""),
                ("GET", ""),
                ("GET", "/x"),
                ("DELETE", "/x"),
                ("GET", "/x/events"),
            ):
                answer = await service.ask(method, f"/api/jobs{path}", WORLD, wrong)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await service.ask("POST", "/api/jobs", WORLD, right)).status == 202


async def test_a_service_without_jobs_says_so(service):
    """404, and how to allow them."""
    service.layer()
    for path in ("/api/jobs", "/api/jobs/x", "/api/jobs/x/events"):
        answer = await service.ask(path)
        assert answer.status == 404
        assert b"--jobs FOLDER" in answer.body
    assert (await service.ask("/api/jobs", method="POST")).status == 404


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "maps.example.com"])
def test_jobs_that_others_can_reach_need_a_key(tmp_path, host):
    """Told before the service starts."""
    told = {"layers": {"a": {"source": "a.mbtiles"}}, "server": {"host": host}}
    with pytest.raises(ConfigError, match=r"jobs\.key"):
        RunningJobs(parse_settings({**told, "jobs": {"folder": str(tmp_path)}}, {}))
    RunningJobs(parse_settings({**told, "jobs": {"folder": str(tmp_path), "key": "k" * 16}}, {}))


async def test_a_slow_reader_finds_what_the_ring_still_holds():
    """Bounded memory, whatever a reader does; the newest progress and the end are never lost."""
    job = RunningJob("id", "world", "world.mbtiles")
    job.put(LaneHeld("host (tile)", 1.0))
    reader = job.follow(silence_s=60)
    assert (await anext(reader))[0] == 1
    for number in range(3 * RING_MAX):
        job.put(LaneHeld("host (tile)", float(number)))
        job.put(Progress(number, 0, 0, 0, 0, 0, 10, 0, 1.0, 1.0))
    job.end("complete")
    job.put(LaneHeld("host (tile)", 1.0))
    found = [one async for one in reader]
    assert len(found) == RING_MAX
    assert sum(isinstance(event, Progress) for _, event in found) == 1
    assert found[-1] == (1 + 6 * RING_MAX + 1, job.ended)


async def test_a_quiet_job_lets_a_proxy_know_that_it_lives():
    """A comment whenever nothing comes for a while; then what comes."""
    job = RunningJob("id", "world", "world.mbtiles")
    reader = job.follow(silence_s=0.001)
    assert await anext(reader) is None
    job.end("complete")
    assert [one async for one in reader if one is not None] == [(1, job.ended)]


async def test_no_answer_of_a_job_names_origin_key_or_path(origin, tmp_path, caplog):
    """Neither the layer's headers, nor the origin's host, nor the folder."""
    caplog.set_level(logging.DEBUG, "tilehaul")
    async with running(origin.template, tmp_path) as service:
        started = await service.ask("POST", "/api/jobs", WORLD)
        job = started.json()["id"]
        events = await service.follow(job)
        told = started.body + (await service.ask("GET", f"/api/jobs/{job}")).body
        told += (await service.ask("GET", "/metrics")).body
        told += repr(events).encode()
    port = origin.template.split("/")[2]
    for secret in ("canary-job-7a1", port, str(tmp_path)):
        assert secret.encode() not in told
    assert "canary-job-7a1" not in caplog.text


async def test_an_origin_that_refuses_is_told_without_its_name(tmp_path):
    """The stream ends with an error; host and path are in the log alone."""
    with MockThread(MockSettings(faults=Faults(errors={403: 1.0}))) as server:
        async with running(server.template, tmp_path) as service:
            job = (await service.ask("POST", "/api/jobs", {**WORLD, "retries": 0})).json()["id"]
            last = (await service.follow(job))[-1][1]
            told = (await service.ask("GET", f"/api/jobs/{job}")).body
        assert (last["type"], last["state"], last["error"]["cause"]) == ("error", "stopped", "fuse")
        assert last["report"]["requests"] == server.stats().requests
        host = server.template.split("/")[2].encode()
    for secret in (host, b"127.0.0.1", str(tmp_path).encode()):
        assert secret not in told + repr(last).encode()


async def test_a_store_of_another_source_fails_the_job(origin, tmp_path):
    """What a job finds only once it runs is the end of its stream."""
    await tilehaul.seed(origin.template, str(tmp_path / "world.mbtiles"), AREA)
    asked = origin.stats().requests
    async with running(origin.template + "?v=2", tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", WORLD)).json()["id"]
        last = (await service.follow(job))[-1][1]
        ended = service.jobs.ended["world", "failed"]
    assert (last["type"], last["state"], last["report"], ended) == ("error", "failed", None, 1)
    assert origin.stats().requests == asked
    assert str(tmp_path) not in repr(last)


async def test_a_region_or_boxes_are_seeded_within_the_layers_bounds_only(origin, tmp_path):
    """Polygons and boxes, counted as the command does; nothing outside what the operator serves."""
    ring = [[-10, -10], [60, -10], [60, 50], [-10, -10]]
    region = {"type": "Polygon", "coordinates": [ring]}
    wanted = {**WORLD, "bbox": None, "region": region}
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", wanted)).json()["id"]
        done = (await service.follow(job))[-1][1]["report"]["done"]
    assert done == origin.stats().requests == tilehaul.Area.from_geojson(region, range(4)).count()
    boxes = [[0, 0, 10, 10], [-60, -40, -50, -30]]
    async with running(origin.template, tmp_path) as service:
        asked = {**WORLD, "store": "boxes", "bbox": None, "bboxes": boxes}
        job = (await service.ask("POST", "/api/jobs", asked)).json()["id"]
        done = (await service.follow(job))[-1][1]["report"]["done"]
    assert done == tilehaul.Area.from_boxes(boxes, range(4)).count()
    layer = {"source": origin.template, "bounds": [0, 0, 20, 20], "max_zoom": 2}
    settings = parse_settings({"layers": {"world": layer}, "jobs": {"folder": str(tmp_path)}}, {})
    async with RunningJobs(settings) as jobs:
        for change, said in (({}, "zooms"), ({"zooms": "0-2"}, "bounds")):
            with pytest.raises(PlanError, match=said):
                await jobs.start(JobRequest(**{**WORLD, **change}))
        pacific = {"bbox": None, "bboxes": ((170, 0, 180, 5), (-180, 0, -170, 5)), "zooms": "0-2"}
        with pytest.raises(PlanError, match="bounds"):
            await jobs.start(JobRequest(**{**WORLD, **pacific}))
    whole = {"source": origin.template, "bounds": [-180, -20, 180, 20]}
    settings = parse_settings({"layers": {"world": whole}, "jobs": {"folder": str(tmp_path)}}, {})
    async with RunningJobs(settings) as jobs:
        await jobs.start(JobRequest(**{**WORLD, "store": "pacific", **pacific}))


def test_to_end_a_job_twice_is_to_cancel_it():
    """First in good order, then at once, and no third step."""
    job = RunningJob("id", "world", "world.mbtiles")
    levels = []
    for _ in range(3):
        job.halt()
        levels.append(job.stop.level)
    assert (levels, job.state) == ([DRAIN, CANCEL, CANCEL], "draining")


async def test_followers_are_bounded_and_make_room_when_they_leave(origin, tmp_path, monkeypatch):
    """One more is told to come later."""
    monkeypatch.setattr("tilehaul.server.job_routes.STREAMS_MAX", 1)
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", SLOW)).json()["id"]
        reader, writer = await service.open("GET", f"/api/jobs/{job}/events")
        assert (await read_head(reader))[0] == 200
        await reader.readline()
        refused = await service.ask("GET", f"/api/jobs/{job}/events")
        while await reader.readline() != b"0\r\n":
            pass
        writer.close()
        assert (await service.follow(job))[-1][1]["state"] == "complete"
    assert (refused.status, refused.json()["cause"]) == (503, "busy")


async def test_many_follow_one_job(origin, tmp_path):
    """Each has the whole stream."""
    async with running(origin.template, tmp_path) as service:
        job = (await service.ask("POST", "/api/jobs", WORLD)).json()["id"]
        all_of_them = await asyncio.gather(*(service.follow(job) for _ in range(5)))
    assert {events[-1][1]["state"] for events in all_of_them} == {"complete"}
    assert origin.stats().requests == 85
