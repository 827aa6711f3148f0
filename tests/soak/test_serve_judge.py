"""That the judgement of the service's soak can fail: each clause, for what breaks it."""

import json
import os

import pytest

from soak.serve_judge import OUTAGE_TAIL_S, SAMPLES_MIN, Outages, Sample, Verdicts, growth
from soak.serve_run import sample

OUTAGES = Outages(first_s=40.0, every_s=60.0, for_s=8.0)
ERROR = json.dumps({"success": False, "error": "x", "cause": "server_error", "request_id": "1"}).encode()


def samples(count: int = 50, **more: float) -> list[Sample]:
    """Flat but for what is named: so much more of it in the last fifth, after all that a warm-up may do."""
    begun = [Sample(at, 10.0 * at, 10.0 + at, 3.0) for at in range(count // 5)]
    flat = [Sample(at, 100.0 + at % 3, 50.0 + at % 5, 9.0) for at in range(count // 5, count)]
    for at in range(len(flat) - count // 5, len(flat)):
        one = flat[at]
        flat[at] = Sample(
            one.at_s,
            one.rss_mb + more.get("rss_mb", 0.0),
            one.files + more.get("files", 0.0),
            one.threads + more.get("threads", 0.0),
        )
    return begun + flat


def test_flat_is_flat_and_growth_is_named() -> None:
    assert growth(samples()) == []
    assert growth(samples(rss_mb=8.0, files=7.0, threads=2.0)) == []
    assert growth(samples(rss_mb=12.0)) == ["memory, MB grew from 101 to 113"]
    assert growth(samples(files=9.0)) == ["descriptors grew from 52 to 61"]
    assert growth(samples(threads=3.0)) == ["threads grew from 9 to 12"]
    assert "longer run" in growth(samples(SAMPLES_MIN)[1:])[0]


def judged(status: int, body: bytes, *, address: str = "1/0/0", asked_s: float = 20.0, etag: bool = False):
    """Verdicts of one answer, of an origin that has 1/0/0 alone."""
    found = Verdicts(lambda tile: b"tile" if tile == "1/0/0" else None, OUTAGES)
    found.tile(address, status, body, asked_s=asked_s, now_s=asked_s + 0.1, etag_known=etag)
    return found


def test_right_answers_are_right() -> None:
    assert judged(200, b"tile").failures() == []
    assert judged(304, b"", etag=True).failures() == []
    assert judged(404, b"", address="1/1/1").failures() == []
    for status in (502, 503, 504):
        assert judged(status, ERROR, asked_s=41.0).failures() == []


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (judged(200, b"tilf"), "not the origin's bytes"),
        (judged(200, b"tile", address="1/1/1"), "does not have"),
        (judged(304, b""), "knew nothing"),
        (judged(404, b""), "404 for a tile"),
        (judged(500, ERROR, asked_s=41.0), "status 500"),
        (judged(429, ERROR, asked_s=41.0), "status 429"),
        (judged(502, b"<html>", asked_s=41.0), "does not say why"),
        (judged(502, b'{"success": false}', asked_s=41.0), "does not say why"),
        (judged(502, ERROR), "outside outages"),
    ],
)
def test_wrong_answers_are_found_out(verdicts: Verdicts, words: str) -> None:
    (failure,) = verdicts.failures()
    assert words in failure


def test_a_batch_and_a_lost_answer_are_judged_too() -> None:
    found = Verdicts(lambda _: None, OUTAGES)
    found.item("1/1/1", {"status": 404, "cause": "absent"}, asked_s=1.0, now_s=1.1)
    found.item("1/1/1", {"status": 502, "cause": "reset"}, asked_s=41.0, now_s=41.1)
    assert found.failures() == []
    found.item("1/1/1", {"status": 500}, asked_s=41.0, now_s=41.1)
    found.item("1/1/1", None, asked_s=41.0, now_s=41.1)
    found.lost("EOFError")
    assert len(found.failures()) == 3


def test_outages_explain_what_they_touch() -> None:
    ends_s = 48.0 + OUTAGE_TAIL_S
    assert not OUTAGES.explain(10.0, 39.9)
    assert OUTAGES.explain(39.0, 40.1)
    assert OUTAGES.explain(ends_s, ends_s + 5.0)
    assert not OUTAGES.explain(ends_s + 0.1, 99.9)
    assert OUTAGES.explain(99.0, 100.5)


def test_a_sample_is_of_the_process_and_its_children() -> None:
    taken = sample(os.getpid(), 1.0)
    assert taken.rss_mb > 5.0
    assert taken.files >= 3
    assert taken.threads >= 1
