"""`tilehaul serve` as a process of its own, over a configuration that can be written anew."""

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tilehaul.lab.mock import MockThread


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()

    def json(self) -> Any:
        return json.loads(self.body)


class ServingProcess:
    """Started by entering it; ended by leaving it."""

    def __init__(self, folder: Path, config: dict[str, Any], *words: str) -> None:
        self.file = folder / "tilehaul.yaml"
        self.words = words
        self.lines: list[http.client.HTTPConnection] = []
        self.write(config)

    def write(self, config: dict[str, Any]) -> None:
        # JSON is YAML.
        self.file.write_text(json.dumps(config))

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tilehaul", "serve", "--config", str(self.file), "--json"]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *self.words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.url = self.event()["url"]
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.lines:
            line.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=20)

    def event(self) -> dict[str, Any]:
        """The next thing it says."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def connect(self) -> http.client.HTTPConnection:
        line = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        self.lines.append(line)
        return line

    def ask(self, path: str, method: str = "GET", line: http.client.HTTPConnection | None = None) -> Answer:
        """One request, on a connection of its own unless there is a `line`."""
        own = line or self.connect()
        try:
            own.request(method, path)
            return Answer(own.getresponse())
        finally:
            if line is None:
                own.close()

    def lines_to_each(self, workers: int) -> list[http.client.HTTPConnection]:
        """A connection that is kept open to each of so many workers."""
        found: dict[int, http.client.HTTPConnection] = {}
        for _ in range(5_000):
            line = self.connect()
            number = self.ask("/api/stats", line=line).json()["workers"]["this"]
            if number in found:
                line.close()
            found.setdefault(number, line)
            if len(found) == workers:
                break
        assert sorted(found) == list(range(1, workers + 1))
        return [found[number] for number in sorted(found)]

    def workers(self) -> list[int]:
        """The processes that answer, as the system knows them."""
        told = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in told.split()]

    def renew(self, config: dict[str, Any]) -> dict[str, Any]:
        """Write the configuration, have it read, and say what was said of it."""
        self.write(config)
        self.process.send_signal(signal.SIGHUP)
        return self.event()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and what was said on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


def config_of(origin: MockThread | None = None, **more: Any) -> dict[str, Any]:
    """One layer `far` at the origin."""
    return {"layers": {} if origin is None else {"far": {"source": origin.template}}, **more}


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
