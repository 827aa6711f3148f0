"""How the tiles of one pool are coming."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# More than this share of the requests must have ended well.
HEALTHY_SHARE = 0.95


class TileServiceHealth:
    """Counts requests and says whether they go well. Every `TileClientPool` has one, as `health`.

    `stats`: `requests_total`, `requests_successful`, `requests_failed` (total is their sum; "there is none"
    is an answer and so a success, a cancelled request is neither), `avg_latency_ms` (mean of the successful,
    retries included) and `current_concurrency` (under way now).
    """

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self.start_time = now_s()
        self.stats: dict[str, Any] = {
            "requests_total": 0,
            "requests_successful": 0,
            "requests_failed": 0,
            "avg_latency_ms": 0.0,
            "current_concurrency": 0,
        }

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count what happens inside as one request: an Exception is a failure."""
        stats = self.stats
        begun_s = self._now_s()
        stats["current_concurrency"] += 1
        try:
            yield
        except Exception:
            stats["requests_total"] += 1
            stats["requests_failed"] += 1
            raise
        else:
            stats["requests_total"] += 1
            stats["requests_successful"] += 1
            latency_ms = (self._now_s() - begun_s) * 1000
            stats["avg_latency_ms"] += (latency_ms - stats["avg_latency_ms"]) / stats["requests_successful"]
        finally:
            stats["current_concurrency"] -= 1

    async def health_check(self) -> dict[str, Any]:
        """`status` (`healthy` or `degraded`), `uptime_seconds` and a copy of `stats`.

        Healthy: more than HEALTHY_SHARE of the requests so far succeeded, or there was none yet.
        """
        total = self.stats["requests_total"]
        share = self.stats["requests_successful"] / total if total else 1.0
        return {
            "status": "healthy" if share > HEALTHY_SHARE else "degraded",
            "uptime_seconds": self._now_s() - self.start_time,
            "stats": dict(self.stats),
        }
