"""What a queue costs."""

import pytest

from tilehaul.policy.queue_wait import queue_wait_s


@pytest.mark.parametrize(
    ("ahead", "limit", "answer_s", "caps", "wait_s"),
    [
        (0, 1, 9.0, (), 0.0),
        (-3, 1, 9.0, (), 0.0),
        (10, 1, 2.0, (), 20.0),
        (10, 4, 2.0, (), 5.0),
        (10, 4, 2.0, (None, 0.5), 20.0),
        (10, 4, 2.0, (100.0, None), 5.0),
        # Nothing was answered yet: nothing is known.
        (10, 4, 0.0, (), 0.0),
        (10, 4, 0.0, (5.0,), 2.0),
    ],
)
def test_wait_is_work_over_pace(ahead, limit, answer_s, caps, wait_s):
    assert queue_wait_s(ahead, limit=limit, answer_s=answer_s, caps_per_s=caps) == pytest.approx(wait_s)
