"""`tilehaul serve --config`: keys, limits and sites of the file are those of the service that runs."""

import hashlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from doubles.wire import PNG
from tilehaul.cli.main import main

KEY = "a-key-of-this-test-0123"
CONFIG = """
layers:
  open: {{source: {folder}}}
  plans: {{source: {folder}, private: true}}
keys:
  site: {{sha256: {hash}, layers: [plans]}}
server:
  cors: ["https://maps.example.com"]
  client_rate: 0.001
  client_burst: 2
  trusted_proxies: [127.0.0.1]
"""


def ask(url: str, **headers: str) -> tuple[int, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=named), timeout=10) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}


def test_what_the_file_says_is_what_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    (folder / "0" / "0").mkdir(parents=True)
    (folder / "0" / "0" / "0.png").write_bytes(PNG)
    file = tmp_path / "tilehaul.yaml"
    file.write_text(CONFIG.format(folder=folder, hash=hashlib.sha256(KEY.encode()).hexdigest()))
    command = [sys.executable, "-m", "tilehaul", "serve", "--config", str(file), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            tile = f"{url}/api/tiles/plans/0/0/0.png"
            assert ask(tile)[0] == 404
            assert ask(tile, X_Api_Key="wrong")[0] == 401
            status, told = ask(tile, X_Api_Key=KEY, Origin="https://maps.example.com")
            assert (status, told["access-control-allow-origin"]) == (200, "https://maps.example.com")
            assert told["cache-control"].startswith("private")
            assert "access-control-allow-origin" not in ask(tile, X_Api_Key=KEY, Origin="https://a.test")[1]
            flood = [ask(f"{url}/api/layers", X_Forwarded_For="203.0.113.7")[0] for _ in range(4)]
            assert flood == [200, 200, 429, 429]
            assert ask(f"{url}/api/layers", X_Forwarded_For="198.51.100.1")[0] == 200
        finally:
            process.terminate()
            process.wait(30)


def test_a_site_that_is_none_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tilehaul.yaml"
    file.write_text("server: {cors: [maps.example.com]}\n")
    assert main(["serve", str(tmp_path), "--config", str(file), "--port", "0"]) == 2
    assert "server.cors" in capsys.readouterr().err
