"""Settings of sending that cannot be are refused when they are made."""

from math import nan

import pytest

from tilehaul.config.sending import Sending
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
    ],
)
def test_number_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sending(**wrong)


def test_no_retries_and_one_at_once_are_fine() -> None:
    assert Sending(retries=0, concurrency=1).retries == 0
