"""The body of a job as its client wrote it."""

import json

import pytest

from tilehaul.config.job_request import parse_job_request
from tilehaul.errors import PlanError


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (json.dumps({"source": "s", "zoo\n\x1b[2Jms": "1"}).encode(), "unknown field `zoo??[2Jms`"),
        (b'{"source": "s", "' + b"x" * 10_000 + b'": 1}', "unknown field `xxx"),
        (b'{"source": "s\xff"}', "no job: "),
        (b'{"source": ' + b"[" * 100_000, "no job: "),
    ],
    ids=["control", "long", "encoding", "deep"],
)
def test_what_is_wrong_is_told_in_a_short_plain_line(body: bytes, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_job_request(body)
    told = str(caught.value)
    assert says in told
    assert told.isprintable()
    assert len(told) < 250
