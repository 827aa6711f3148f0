"""nginx in front of the service, as docs/operate.md has it."""

# mypy: allow-untyped-defs, allow-untyped-calls

import http.client
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from cli.serving_process import ServingProcess, config_of
from servers.conftest import end, free_port, program, wait_for
from tilehaul.lab.faults import Faults, Latency
from tilehaul.lab.mock import MockThread
from tilehaul.lab.mock_settings import MockSettings

pytestmark = pytest.mark.servers

PAGE = Path(__file__).parents[2] / "docs" / "operate.md"
MAIN = """daemon off;
{user}
pid {root}/pid;
error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
access_log off;
client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
{recipe}
}}
"""
TILE = "/api/tiles/far/6/1/1.png"


def recipe(**places: str) -> str:
    """The block of the page, with its places put elsewhere."""
    (block,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for there, here in places.items():
        old = {"service": "127.0.0.1:8080", "listen": "listen 80;", "cache": "/var/cache/nginx/tiles"}[there]
        assert block.count(old) == 1
        block = block.replace(old, here)
    return block


@pytest.fixture
def behind(tmp_path):
    """An origin, a service that may run jobs, and the port of nginx in front of it."""
    nginx = program("nginx")
    root, port = tmp_path / "nginx", free_port()
    root.mkdir()
    slow = MockSettings(faults=Faults(latency=Latency(ms=50)))
    with (
        MockThread(slow) as origin,
        ServingProcess(tmp_path, config_of(origin), "--jobs", str(tmp_path)) as it,
    ):
        where = it.url.removeprefix("http://")
        block = recipe(service=where, listen=f"listen 127.0.0.1:{port};", cache=f"{root}/tiles")
        # Started by root, the workers would be `nobody`, who may not write here.
        user = "user root;" if os.geteuid() == 0 else ""
        (root / "nginx.conf").write_text(MAIN.format(root=root, user=user, recipe=block))
        command = [nginx, "-c", root / "nginx.conf", "-e", root / "error.log"]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/health/ready")
            yield origin, it, port
        finally:
            end(process)


def ask(port, path, method="GET", headers=None, body=None):
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    line.request(method, path, body, headers or {})
    answer = line.getresponse()
    told = answer.status, answer.headers, answer.read()
    line.close()
    return told


def test_tiles_by_way_of_nginx(behind):
    """The bytes, kept by nginx; 304 for who has them; what is no tile is not kept."""
    origin, it, port = behind
    status, headers, body = ask(port, TILE)
    assert (status, body, headers["X-Cache"]) == (200, origin.body_of("6/1/1"), "MISS")
    status, headers, again = ask(port, TILE)
    assert (status, again, headers["X-Cache"]) == (200, body, "HIT")
    status, told, empty = ask(port, TILE, headers={"If-None-Match": headers["ETag"]})
    assert (status, empty, told["ETag"]) == (304, b"", headers["ETag"])
    assert origin.stats().requests == 1
    for _ in range(2):
        stats = json.loads(ask(port, "/api/tiles/far/cache-stats")[2])
        assert stats["total_requests"] == 1, "the rest was nginx's"
    told = json.loads(ask(port, "/api/tiles/far")[2])
    assert told["tiles"] == [f"http://127.0.0.1:{port}/api/tiles/far/{{z}}/{{x}}/{{y}}.png"]
    status, headers, _ = ask(port, "/api/tiles/far/99/0/0.png")
    assert status == 400
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-Id"]), "nginx's own name of the request"
    assert it.end() == (0, "")
    status, headers, kept = ask(port, TILE)
    assert (status, kept) == (200, body), "nginx goes on with what it has"


def test_events_of_a_job_pass_through_at_once(behind):
    """The first of them is read while the job still runs."""
    origin, it, port = behind
    order = {"source": "far", "store": "slow.mbtiles", "zooms": "0-6", "bbox": [-180, -85, 180, 85]}
    json_type = {"Content-Type": "application/json"}
    status, _, body = ask(port, "/api/jobs", "POST", json_type, json.dumps(order))
    assert status == 202, body
    job = json.loads(body)["id"]
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    line.request("GET", f"/api/jobs/{job}/events")
    answer = line.getresponse()
    first = [answer.readline() for _ in range(4)]
    assert any(one.startswith((b"id: 1", b"event:")) for one in first)
    assert json.loads(ask(port, f"/api/jobs/{job}")[2])["state"] == "running"
    line.close()
    for _ in range(2):
        ask(port, f"/api/jobs/{job}", "DELETE")
    assert origin.stats().requests < 1000
    assert it.end()[0] == 0
