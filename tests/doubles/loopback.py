"""An HTTP server on loopback, for as long as a test needs one."""

# mypy: allow-untyped-defs, allow-untyped-calls

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """`held_back` bytes of the body are not sent, and the connection is closed."""

    status: int
    headers: dict[str, str]
    body: bytes
    held_back: int = 0


def answer(status, content_type, body, held_back=0):
    return Answer(status, {"Content-Type": content_type}, body, held_back)


class Loopback:
    """Use as a context manager. A subclass says in `answered(path, headers)` what is answered to a GET.

    `path` has its query; requests are answered in threads of their own. `url` is the server's address.
    """

    def __init__(self):
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A request, its answer's head and its body are three packets.
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_GET(self):
                told = served.answered(self.path, self.headers)
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name, value)
                if told.status != 304:
                    self.send_header("Content-Length", str(len(told.body)))
                # Whoever has waited too long has gone.
                with contextlib.suppress(BrokenPipeError):
                    self.end_headers()
                    self.wfile.write(told.body[: len(told.body) - told.held_back])
                if told.held_back:
                    self.close_connection = True

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
