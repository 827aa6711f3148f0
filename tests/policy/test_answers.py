"""The table of answers, status by status."""

import pytest

from tilehaul.policy.answers import ANSWERS_DEFAULT, SIGN_BYTES_MAX, AnswerRule, Sign, judge_status


@pytest.mark.parametrize(
    ("status", "retry_after", "meaning"),
    [
        (200, False, "done"), (206, False, "done"), (304, False, "done"),
        (404, False, "absent"), (410, False, "absent"), (204, False, "absent"),
        (429, False, "pushed_back"), (429, True, "pushed_back"),
        (503, True, "pushed_back"), (509, True, "pushed_back"),
        (503, False, "transient"), (509, False, "transient"), (500, True, "transient"),
        (599, False, "transient"),
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
    assert rule.is_push_back(500, {}, b"")
    assert not rule.is_push_back(502, {}, b"")
    assert not ANSWERS_DEFAULT.is_push_back(500, {}, b"")


@pytest.mark.parametrize(
    ("sign", "headers", "body", "seen"),
    [
        (Sign(503), {}, b"", True),
        (Sign(500), {}, b"", False),
        (Sign(503, header="x-note"), {"x-note": ""}, b"", True),
        (Sign(503, header="x-note"), {}, b"", False),
        (Sign(503, header="x-note", header_value="limit"), {"x-note": "Rate LIMIT hit"}, b"", True),
        (Sign(503, header="x-note", header_value="limit"), {"x-note": "down"}, b"", False),
        (Sign(503, header="x-note", header_value="limit"), {}, b"limit", False),
        (Sign(503, body="quota"), {}, b"<p>Your QUOTA is used up", True),
        (Sign(503, body="quota"), {}, b"maintenance", False),
        (Sign(503, body="quota"), {}, b" " * SIGN_BYTES_MAX + b"quota", False),
        (Sign(503, header="x-note", body="quota"), {"x-note": "1"}, b"no", False),
        (Sign(503, body="\u00fcber"), {}, "\u00fcber".encode(), True),
    ],
)
def test_sign_is_seen_only_when_every_mark_is_there(
    sign: Sign, headers: dict[str, str], body: bytes, seen: object
) -> None:
    assert AnswerRule(signs=(sign,)).is_push_back(503, headers, body) is seen
    assert not AnswerRule(signs=(sign,)).is_push_back(404, headers, body)


def test_body_is_read_only_where_a_sign_names_it() -> None:
    """A coded body has to be decoded for it."""
    assert AnswerRule(signs=(Sign(503), Sign(500, body="quota"))).reads_body
    assert not AnswerRule(frozenset({500}), (Sign(503, header="x-note"),)).reads_body
