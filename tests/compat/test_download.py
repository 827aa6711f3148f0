"""`download_tile` and `download_tile_safe`: from plain threads, over what the process shares."""

import random
import subprocess
import sys
import threading

import pytest

import tilehaul
from tilehaul.compat.threads import (
    CancellableThreadPool,
    close_connections,
    download,
    download_tile,
    download_tile_safe,
)
from tilehaul.lab.absence import Absence
from tilehaul.lab.faults import Faults, RetryAfter
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

ME = "my-addon/1.0 (me@example.com)"


@pytest.fixture(autouse=True)
def _closed_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "DELAY_S_FIRST", 0.001)
    yield
    close_connections()
    assert "tilehaul-loop" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def server():
    with MockThread() as mock:
        yield mock


def test_tile_comes_with_both_names_in_the_user_agent(server: MockThread) -> None:
    assert download_tile(f"{server.base_url}/3/4/2.png", ME, timeout=4) == server.body_of("3/4/2")
    assert server.stats().last_user_agent.startswith(f"{ME} tilehaul/")
    assert download_tile(f"{server.base_url}/3/4/2.png", "") == server.body_of("3/4/2")
    assert server.stats().last_user_agent.startswith("tilehaul/")


def test_safe_variant_answers_three_things(server: MockThread) -> None:
    told = []
    url = f"{server.base_url}/3/4/2.png"
    assert download_tile_safe(url, ME, timeout=4, callback_on_error=told.append) == (
        True,
        server.body_of("3/4/2"),
        None,
    )
    assert told == []
    server.set_faults(Faults(errors={403: 1.0}))
    success, data, error = download_tile_safe(url, ME, timeout=4, callback_on_error=told.append)
    assert (success, data) == (False, None)
    assert error is not None
    assert "403" in error
    assert told == [error]


def test_tile_that_does_not_exist_is_none_and_no_error() -> None:
    with MockThread(MockSettings(absence=Absence(share=1.0))) as server:
        url = f"{server.base_url}/3/4/2.png"
        assert download_tile(url, ME) is None
        assert download_tile_safe(url, ME) == (True, None, None)
        assert server.requests_of("3/4/2") == 2


def test_failures_are_tried_again_and_then_told() -> None:
    """Three attempts in all, as before."""
    with MockThread(MockSettings(faults=Faults(errors={500: 1.0}))) as server:
        with pytest.raises(tilehaul.BrokenError) as caught:
            download_tile(f"{server.base_url}/3/4/2.png", ME)
        assert caught.value.attempts == server.requests_of("3/4/2") == 3


def test_damaged_tile_is_never_handed_out() -> None:
    with MockThread(MockSettings(faults=Faults(shares={"short_length": 1.0}), tile_bytes=4000)) as server:
        success, data, error = download_tile_safe(f"{server.base_url}/3/4/2.png", ME)
        assert (success, data) == (False, None)
        assert error is not None


def test_silent_server_is_left_and_the_request_ended() -> None:
    """The old time limit left the request running; here the server sees the connection go."""
    with MockThread(MockSettings(faults=Faults(shares={"black_hole": 1.0}))) as server:
        with pytest.raises(tilehaul.TimedOutError):
            download_tile(f"{server.base_url}/3/4/2.png", ME, timeout=0.05)
        stats = server.stats()
        assert stats.requests == 3
        assert stats.connections_open == 0


def test_host_that_fails_is_left_alone_by_all_threads(
    server: MockThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The breaker is the process's: what one thread has seen spares the others, and another host is asked."""
    monkeypatch.setattr(random, "random", lambda: 0.0)  # the pause in its full length
    server.set_faults(Faults(errors={500: 1.0}))
    pool = CancellableThreadPool(max_workers=4)
    for number in range(60):
        pool.submit_task(download_tile_safe, f"{server.base_url}/6/{number}/1.png", ME)
    results, _ = pool.wait_completion()
    assert not any(success for success, _, _ in results)
    assert sum("left alone" in error for _, _, error in results) > 20
    # 60 tiles, 3 attempts each, would be 180.
    assert server.stats().requests < 60
    with MockThread() as other:
        assert download_tile(f"{other.base_url}/3/4/2.png", ME) == other.body_of("3/4/2")


def test_call_as_a_whole_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two timeouts' time is not enough for three attempts."""
    monkeypatch.setattr(download, "CALL_TIMEOUTS", 2)
    with MockThread(MockSettings(faults=Faults(shares={"black_hole": 1.0}))) as server:
        with pytest.raises(tilehaul.TimedOutError, match=r"given up after 0\.1 s"):
            download_tile(f"{server.base_url}/3/4/2.png", ME, timeout=0.05)
        assert server.requests_of("3/4/2") <= 2


def test_call_ends_although_the_upstream_asks_for_more_patience() -> None:
    faults = Faults(errors={429: 1.0}, retry_after=RetryAfter(delay_s=3600))
    with MockThread(MockSettings(faults=faults)) as server:
        with pytest.raises(tilehaul.TransferError):
            download_tile(f"{server.base_url}/3/4/2.png", ME, timeout=0.05)
        assert server.requests_of("3/4/2") == 1


def test_threads_share_the_connections(server: MockThread) -> None:
    """100 tiles from 4 threads: a few connections, one thread of ours, every tile its own."""
    pool = CancellableThreadPool(max_workers=4)
    for number in range(100):
        pool.submit_task(download_tile, f"{server.base_url}/10/{number}/7.png", ME)
    results, errors = pool.wait_completion()
    assert errors == []
    assert results == [server.body_of(f"10/{number}/7") for number in range(100)]
    assert server.stats().connections_total <= 4
    assert sum(thread.name == "tilehaul-loop" for thread in threading.enumerate()) == 1


@pytest.mark.parametrize(
    ("url", "user_agent", "timeout", "says"),
    [
        ("http://127.0.0.1:9/0/0/0.png", ME, 0, "timeout"),
        ("http://127.0.0.1:9/0/0/0.png", ME, -1, "timeout"),
        ("http://127.0.0.1:9/0/0/0.png", "a\r\nX-Evil: 1", 4, "user_agent"),
        ("http://127.0.0.1:9/0/0/0.png", "caf\u00e9", 4, "user_agent"),
        ("ftp://example.com/0/0/0.png", ME, 4, "http"),
        ("nonsense", ME, 4, "http"),
    ],
)
def test_bad_arguments_say_what_is_wrong(url: str, user_agent: str, timeout: float, says: str) -> None:
    with pytest.raises((ValueError, tilehaul.ConfigError), match=says):
        download_tile(url, user_agent, timeout)
    success, data, error = download_tile_safe(url, user_agent, timeout)
    assert (success, data) == (False, None)
    assert says in str(error)


def test_host_that_asks_for_a_contact_gets_one_or_nothing_is_sent() -> None:
    with pytest.raises(tilehaul.PlanError, match="contact"):
        download_tile("https://tile.openstreetmap.org/0/0/0.png", " ")


def test_secret_of_an_address_is_in_no_error() -> None:
    _, _, error = download_tile_safe("http://127.0.0.1:9/0/0/0.png?api_key=hunter2hunter2", ME, timeout=1)
    assert error is not None
    assert "hunter2" not in error


def test_callback_that_raises_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    def callback(_text: str) -> None:
        raise LookupError("the window is gone")

    success, _, error = download_tile_safe("nonsense", ME, callback_on_error=callback)
    assert not success
    assert error
    assert "the window is gone" in caplog.text


def test_closing_ends_what_is_under_way_and_the_next_call_opens_anew(server: MockThread) -> None:
    server.set_faults(Faults(shares={"black_hole": 1.0}))
    outcome = []
    url = f"{server.base_url}/3/4/2.png"
    caller = threading.Thread(target=lambda: outcome.append(download_tile_safe(url, ME, timeout=60)))
    caller.start()
    while server.requests_of("3/4/2") == 0:
        pass
    close_connections()
    caller.join()
    assert "closed" in outcome[0][2]
    server.set_faults(Faults())
    assert download_tile(url, ME) == server.body_of("3/4/2")


PROGRAM = """
import sys, threading
from tilehaul.compat.threads import CancellableThreadPool, download_tile
url = sys.argv[1]
"""
HUNG = """
pool = CancellableThreadPool()
pool.submit_task(download_tile, url, "me", 600)
while not any(thread.name == "tilehaul-loop" for thread in threading.enumerate()): pass
"""
FORKED = """
import os
assert download_tile(url, "me")
child = os.fork()
if child == 0:
    os._exit(0 if download_tile(url, "me") else 1)
assert os.waitpid(child, 0)[1] == 0
assert download_tile(url, "me")
"""


def test_program_ends_while_a_download_hangs() -> None:
    with MockThread(MockSettings(faults=Faults(shares={"black_hole": 1.0}))) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM + HUNG, f"{server.base_url}/3/4/2.png"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_child_of_fork_has_an_engine_of_its_own(server: MockThread) -> None:
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + FORKED, f"{server.base_url}/3/4/2.png"],
        timeout=30,
        check=True,
    )
    assert server.requests_of("3/4/2") == 3
