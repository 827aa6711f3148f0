"""The table of answers, status by status."""

import pytest

from tilehaul.policy.answers import AnswerRule, judge_status


@pytest.mark.parametrize(
    ("status", "retry_after", "meaning"),
    [
        (200, False, "done"), (206, False, "done"), (304, False, "done"),
        (404, False, "absent"), (410, False, "absent"), (204, False, "absent"),
        (429, False, "pushed_back"), (429, True, "pushed_back"),
        (503, True, "pushed_back"), (509, True, "pushed_back"),
        (503, False, "transient"), (509, False, "transient"), (500, True, "transient"),
        (502, False, "transient"), (504, False, "transient"), (520, False, "transient"),
        (408, False, "transient"), (425, False, "transient"),
        (401, False, "denied"), (403, False, "denied"),
        (400, False, "permanent"), (405, False, "permanent"), (414, False, "permanent"),
        (451, False, "permanent"), (302, False, "permanent"), (600, False, "permanent"),
    ],
)  # fmt: skip
def test_status_means_what_the_contract_says(status, retry_after, meaning) -> None:
    """One row of `contracts`, "Answers of an origin"."""
    assert judge_status(status, retry_after=retry_after) == meaning


def test_provider_rule_adds_a_status() -> None:
    """A host that answers 500 when it means 429."""
    rule = AnswerRule(push_back=frozenset({500}))
    assert judge_status(500, retry_after=False, rule=rule) == "pushed_back"
    assert judge_status(502, retry_after=False, rule=rule) == "transient"
