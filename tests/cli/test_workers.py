"""`tilehaul serve --workers N`: several processes that are one service."""

import re
import sys
import threading
from pathlib import Path

import pytest

from cli.serving_process import ServingProcess, config_of, kill
from tilehaul.cli.main import main
from tilehaul.lab.faults import Faults, Latency, RateLimit, RetryAfter
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def tile(x: int, layer: str = "far") -> str:
    return f"/api/tiles/{layer}/6/{x}/1.png"


def figure(text: bytes, name: str) -> float:
    found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", text.decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_statistics_are_those_of_all_workers_whoever_answers(tmp_path: Path) -> None:
    """Counts, sizes, lanes and metrics; emptying caches; and they outlast a worker that is killed."""
    cache = {"memory": "8MB"}
    with (
        MockThread() as origin,
        ServingProcess(tmp_path, config_of(origin, cache=cache), "--workers", "2") as it,
    ):
        one, two = it.lines_to_each(2)
        for x in range(7):
            assert it.ask(tile(x), line=one).body == origin.body_of(f"6/{x}/1")
        for x in range(7, 12):
            assert it.ask(tile(x), line=two).body == origin.body_of(f"6/{x}/1")
        for x in range(3):
            assert it.ask(tile(x), line=one).headers["X-Tile-Source"] == "memory"
        for line in (one, two, one):
            stats = it.ask("/api/tiles/far/cache-stats", line=line).json()["stats"]
            told = (stats["total_requests"], stats["cache_hits"], stats["cache_misses"], stats["cache_size"])
            assert told == (15, 3, 12, 12)
            assert (stats["cache_bytes_max"], stats["thread_workers"]) == (8_000_000, 32)
            whole = it.ask("/api/stats", line=line).json()
            assert (whole["requests"], whole["fetches"], whole["cache"]["tiles"]) == (15, 12, 12)
            (lane,) = whole["lanes"]["far"]
            assert (lane["requests"], lane["recent"]["answered"]) == (12, 12)
            assert (whole["workers"]["running"], whole["workers"]["answered"]) == (2, 2)
            metrics = it.ask("/metrics", line=line).body
            assert figure(metrics, "tilehaul_tile_requests_total") == 15
            assert figure(metrics, "tilehaul_lane_requests_total") == 12
            assert it.ask("/api/health", line=line).json()["status"] == "healthy"
        assert origin.stats().requests == 12

        forgotten = it.ask("/api/tiles/far/cache?zooms=6", "DELETE", line=two).json()
        assert forgotten == {"layer": "far", "forgotten": 7}, "the most that one of them had"
        assert it.ask("/api/tiles/far/cache-stats", line=one).json()["cache_size"] == 0

        before = it.workers()
        kill(before[0])
        assert it.ask(tile(20), line=two).status == 200, "the other goes on"
        # A connection that finds a worker of another number than 2 has found the new one.
        it.lines_to_each(2)
        assert len(set(it.workers()) - set(before)) == 1
        assert it.ask("/api/stats", line=two).json()["requests"] == 16, "what it counted is kept"
        code, errors = it.end()
        assert code == 0
        assert errors.strip() == "worker 1 ended (signal 9): it begins again in 0.1 s"


def test_an_origin_is_asked_no_more_than_by_one_process(tmp_path: Path) -> None:
    """Three at once are two of one worker and one of the other."""
    slow = MockSettings(faults=Faults(latency=Latency(ms=20)))
    with MockThread(slow) as origin:
        config = config_of(origin, server={"workers": 2})
        config["layers"]["far"]["concurrency"] = 3
        with ServingProcess(tmp_path, config) as it:
            lines = it.lines_to_each(2)
            asking = [
                threading.Thread(target=it.ask, args=(f"/api/tiles/far/batch?{batch(y)}", "GET", lines[y]))
                for y in (0, 1)
            ]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join()
            stats = origin.stats()
            assert (stats.requests, stats.peak_in_flight) == (60, 3)
            assert it.end()[0] == 0


def test_a_wait_that_one_worker_is_asked_for_holds_all(tmp_path: Path) -> None:
    """The third request is pushed back; nothing is sent after it, by neither worker."""
    faults = Faults(rate_limit=RateLimit(0.001, 2), retry_after=RetryAfter("seconds", 60))
    with MockThread(MockSettings(faults=faults)) as origin:
        config = config_of(origin, server={"workers": 2})
        config["layers"]["far"] |= {"timeout": 5, "retries": 0}
        with ServingProcess(tmp_path, config) as it:
            one, two = it.lines_to_each(2)
            assert [it.ask(tile(x), line=line).status for x, line in ((1, one), (2, two), (3, one))] == [
                200,
                200,
                503,
            ]
            # By the same way as the news, and behind it.
            (lane,) = it.ask("/api/stats", line=one).json()["lanes"]["far"]
            assert lane["gate"] == "held"
            answer = it.ask(tile(4), line=two)
            assert answer.status == 503
            assert 50 < int(answer.headers["Retry-After"]) <= 62
            assert origin.stats().requests == 3
            assert it.end()[0] == 0


def batch(y: int) -> str:
    return "&".join(f"tiles=6/{x}/{y}.png" for x in range(30))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_under_way_end_before_the_service_does(tmp_path: Path, workers: str) -> None:
    """While it takes leave it still answers, and `/health/ready` says no; a second signal ends that."""
    slow = MockSettings(faults=Faults(latency=Latency(ms=400)))
    with MockThread(slow) as origin:
        config = config_of(origin, server={"notice": 300})
        with ServingProcess(tmp_path, config, "--workers", workers) as it:
            answers = []
            asking = [
                threading.Thread(target=lambda x=x: answers.append(it.ask(tile(x)).status)) for x in range(4)
            ]
            for thread in asking:
                thread.start()
            while origin.stats().peak_in_flight < 4:
                pass
            it.process.terminate()
            while (ready := it.ask("/health/ready")).status == 200:
                pass
            assert ready.json()["checks"] == {"accepting": False}
            assert it.ask("/api/layers").status == 200
            code, errors = it.end()
            for thread in asking:
                thread.join()
            assert (code, errors, answers) == (0, "", [200] * 4)


def test_workers_do_not_outlive_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed, it can tell them nothing: they notice, end what they do, and let go of the port."""
    with MockThread() as origin, ServingProcess(tmp_path, config_of(origin), "--workers", "2") as it:
        assert it.ask(tile(1)).status == 200
        workers = it.workers()
        assert len(workers) == 2
        kill(it.process.pid)
        assert it.process.wait(timeout=20) == -9
        for worker in workers:
            while Path(f"/proc/{worker}").exists() and ") Z " not in status_of(worker):
                pass
        with pytest.raises(ConnectionRefusedError):
            it.ask("/health/live")


def status_of(process: int) -> str:
    """What the system says of a process; one that has ended and was not asked after is `Z`."""
    try:
        return Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ") Z "


def test_what_cannot_begin_says_why_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = str(tmp_path / "gone.mbtiles")
    assert main(["serve", gone, "--port", "0", "--workers", "2"]) == 2
    assert capsys.readouterr().err == f"tilehaul: layers.gone: {gone}: there is no such file\n"
    assert main(["serve", str(tmp_path), "--workers", "2", "--jobs", str(tmp_path / "jobs")]) == 2
    told = "tilehaul: jobs need a service of one process: leave out --jobs, or --workers\n"
    assert capsys.readouterr().err == told
    assert main(["serve", str(tmp_path), "--workers", "65"]) == 2
    assert "--workers 65 is more than 64" in capsys.readouterr().err
