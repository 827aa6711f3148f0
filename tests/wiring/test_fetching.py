"""How long one fetch is tried."""

import pytest

from tilehaul.errors import ConfigError
from tilehaul.policy.retry import RetryRule
from tilehaul.wiring.fetching import Patience


def test_patience_is_a_rule() -> None:
    patience = Patience(7.0, 3, 0.3, 30.0, 5.0, growth=3.0, jitter=0.0)
    assert patience.rule() == RetryRule(4, 0.3, 30.0, 5.0, growth=3.0, jitter=0.0)
    assert Patience().rule() == RetryRule(3, 0.2, 2.0, 60.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0.0}, {"retries": -1}, {"delay_s_first": -0.1}, {"delay_s_max": float("inf")},
        {"wait_s_max": float("nan")}, {"growth": 0.9}, {"growth": 4.1}, {"jitter": -0.1}, {"jitter": 1.1},
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Patience(**wrong)  # type: ignore[arg-type]
