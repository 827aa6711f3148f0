"""Settings of sending that cannot be are refused when they are made."""

from math import inf, nan

import pytest

from tilehaul.config.sending import WORKERS_SPARE, Sending
from tilehaul.errors import ConfigError


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"concurrency": 0},
        {"concurrency": -4},
        {"timeout_s": 0.0},
        {"max_wait_s": 0.0},
        {"max_wait_s": nan},
        {"max_wait_s": inf},
        {"timeout_s": inf},
        {"timeout_s": 1e300},
        {"timeout_s": 86_401},
        {"timeout_s": "10"},
        {"timeout_s": True},
        {"concurrency": 1001},
        {"concurrency": 2.5},
        {"concurrency": "8"},
        {"concurrency": True},
        {"retries": 1.5},
        {"retries": None},
    ],
)
def test_number_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sending(**wrong)


def test_no_retries_and_one_at_once_are_fine() -> None:
    assert Sending(retries=0, concurrency=1).retries == 0


def test_a_day_is_as_long_as_the_wire_can_count() -> None:
    limits = Sending(timeout_s=86_400, max_wait_s=86_400).timeouts()
    assert limits.connect_s * 1000 < 2**31


@pytest.mark.parametrize(
    ("said", "lane_class", "workers"),
    [
        ({}, "tile", 32 + WORKERS_SPARE),
        ({}, "wms", 8 + WORKERS_SPARE),
        ({}, "s3-read", 128 + WORKERS_SPARE),
        ({"adaptive": False}, "s3-read", 32 + WORKERS_SPARE),
        ({"concurrency": 5}, "s3-read", 5 + WORKERS_SPARE),
        ({"concurrency": 500}, "wms", 500 + WORKERS_SPARE),
    ],
)
def test_workers_follow_the_class_unless_the_user_says(said: dict, lane_class: str, workers: int) -> None:
    assert Sending(**said).workers_for(lane_class) == workers
