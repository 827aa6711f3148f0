"""`tilehaul mock` as a person runs it."""

import argparse
import http.client
import json
import signal
import subprocess
import sys

import pytest

from tilehaul.cli import mock
from tilehaul.errors import ConfigError
from tilehaul.lab.absence import Absence
from tilehaul.lab.fault_words import FAULT_KEYS
from tilehaul.lab.faults import Capacity, Faults, Latency, RateLimit, RetryAfter
from tilehaul.lab.mock import MockSettings, MockThread
from tilehaul.lab.script import parse_script

# The command's own door, without the other commands: they are tested in their rooms.
PROGRAM = """
import argparse
from tilehaul.cli import mock
parser = argparse.ArgumentParser()
mock.add_parser(parser.add_subparsers())
options = parser.parse_args()
raise SystemExit(options.run(options))
"""


def parse(*words):
    parser = argparse.ArgumentParser()
    mock.add_parser(parser.add_subparsers())
    return parser.parse_args(["mock", *words])


def get(url_host, path):
    client = http.client.HTTPConnection(url_host)
    client.request("GET", path)
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer.status, body


def test_command_serves_and_ends_with_counts():
    """One line with both addresses, tiles as told, and after Ctrl-C one line of counts and exit 0."""
    words = ["mock", "--port", "0", "--errors", "503:1", "--retry-after", "7"]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        host = line.split("http://")[1].split("/")[0]
        assert "/{z}/{x}/{y}.png" in line
        assert f"http://{host}/_/stats" in line
        assert [get(host, "/3/4/2.png")[0] for _ in range(3)] == [503] * 3
        assert json.loads(get(host, "/_/stats")[1])["inside_retry_after"] == 2
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(10) == 0
    assert "3 requests for 1 tile" in rest
    assert "3 x 503" in rest
    assert "3 x error_503" in rest


def test_command_speaks_json_and_ends_on_sigterm():
    """With --json each line is an object: the address first, the counters last."""
    words = ["mock", "--port", "0", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        begun = json.loads(process.stdout.readline())
        host = begun["template"].split("/")[2]
        assert get(host, "/0/0/0.png")[0] == 200
        process.send_signal(signal.SIGTERM)
        ended = json.loads(process.stdout.read())
        assert process.wait(10) == 0
    assert (begun["event"], ended["event"]) == ("started", "stopped")
    assert (ended["requests"], ended["by_status"]) == (1, {"200": 1})


def test_port_in_use_is_a_config_error_for_the_door():
    """The command raises what the door turns into one line and exit 2."""
    with MockThread() as server:
        options = parse("--port", str(server.port))
        with pytest.raises(ConfigError, match="in use: stop the other program"):
            options.run(options)


def test_flags_arrive_in_the_settings(tmp_path):
    """Each flag changes what it says, none is ignored."""
    path = tmp_path / "faults.yaml"
    path.write_text("- {at: 5, empty: 1}\n")
    options = parse(
        *("--port", "0", "--host", "127.0.0.2", "--seed", "5", "--tiles", "painted", "--format", "webp"),
        *("--absent", "zoom>6:204", "--clock-skew", "60", "--latency-ms", "80", "--jitter-ms", "20"),
        *("--latency-distribution", "lognormal", "--capacity", "2:10", "--rate-limit", "50", "--burst", "9"),
        *("--retry-after", "garbage", "--truncate", "bit_flip:0.1", "--truncate", "cut_gzip:0.2"),
        *("--faults", "wrong_tile:0.05", "--reset", "0.1", "--script", str(path)),
    )
    shares = {"bit_flip": 0.1, "cut_gzip": 0.2, "wrong_tile": 0.05, "reset_mid": 0.1}
    assert mock.settings_of(options) == MockSettings(
        tiles="painted",
        format="webp",
        host="127.0.0.2",
        seed=5,
        absence=Absence(above_zoom=6, status=204),
        clock_skew_s=60.0,
        script=parse_script("- {at: 5, empty: 1}"),
        faults=Faults(
            latency=Latency(80, 20, "lognormal"),
            capacity=Capacity(2, 10),
            rate_limit=RateLimit(50, 9),
            retry_after=RetryAfter("raw", text="soon, probably"),
            shares=shares,
        ),
    )
    assert mock.settings_of(parse("--tile-bytes", "4000")) == MockSettings(tile_bytes=4000, port=8001)


def test_every_fault_setting_of_a_script_is_a_flag_too():
    """Command line and script know the same words."""
    flags = {key.removeprefix("fault_") for key in vars(parse()) if key.startswith("fault_")}
    assert flags == set(FAULT_KEYS)
