"""schemathesis asks a service for what `/openapi.json` allows and for what it does not."""

# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import threading
import urllib.request

import pytest

from tilehaul.config.load import parse_settings
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings
from tilehaul.net.clock import SystemClock
from tilehaul.policy.keyring import hash_of
from tilehaul.server.app import Server, make_app
from tilehaul.wiring.layers import api_keys, open_layers
from tilehaul.wiring.running_jobs import RunningJobs

pytestmark = [
    pytest.mark.servers,
    pytest.mark.timeout(180),
    pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is missing"),
]

# For each of two runs; what is slow is their generator.
SECONDS = 25
KEY = "a-key-of-the-test"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@contextlib.contextmanager
def serving(folder):
    """A service with a public layer, a private one, jobs and forgetting, in a thread of its own."""
    ready, urls = threading.Event(), []

    async def serve(origin):
        part = {"world": {"source": origin.template}, "plans": {"source": origin.template, "private": True}}
        keys = {"site": {"sha256": hash_of(KEY.encode()).hex(), "layers": ["*"]}}
        settings = parse_settings({"layers": part, "keys": keys, "jobs": {"folder": str(folder)}}, {})
        ended = asyncio.Event()
        async with open_layers(settings) as opened, RunningJobs(settings) as jobs:
            app = make_app(
                opened.layers,
                opened.caches.memory,
                clock=SystemClock(),
                process=opened.process,
                jobs=jobs,
                keys=api_keys(settings),
                forget=opened.caches.forget,
            )
            async with Server(app, port=0, drain_s=1) as server:
                urls.extend([server.url, asyncio.get_running_loop(), ended])
                ready.set()
                await ended.wait()

    with MockThread(MockSettings()) as origin:
        thread = threading.Thread(target=lambda: asyncio.run(serve(origin)))
        thread.start()
        assert ready.wait(30)
        try:
            yield urls[0]
        finally:
            urls[1].call_soon_threadsafe(urls[2].set)
            thread.join(30)


@pytest.mark.parametrize("known", [False, True])
def test_nothing_that_is_asked_makes_the_service_fail(tmp_path, known):
    """No 5xx, no status and no type that is not told: for names out of the air, and for the layers' own."""
    with serving(tmp_path / "stores") as url:
        with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
            document = json.load(answer)
        if known:
            for methods in document["paths"].values():
                for operation in methods.values():
                    for parameter in operation["parameters"]:
                        if parameter["name"].lower() == "layer":
                            parameter["schema"] = {"enum": ["world", "plans"]}
                        if parameter["name"] == "tiles":
                            one = {"type": "string", "pattern": "^[0-3]/[0-3]/[0-3]\\.(png|jpg)$"}
                            parameter["schema"]["items"] = one
        file = tmp_path / "openapi.json"
        file.write_text(json.dumps(document))
        run = [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", url, "--seed", "7"]
        run += ["--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing", "--max-time", str(SECONDS)]
        run += ["--request-timeout", "20", "--continue-on-failure", "--warnings", "off"]
        if known:
            run += ["-H", f"X-Api-Key: {KEY}"]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert cases is not None
    assert int(cases[1]) == int(cases[2]) >= 300
