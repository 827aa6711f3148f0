"""The one table of causes: every cause the program can name has a class."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilehaul
from tilehaul import errors
from tilehaul.net import curl
from tilehaul.policy.causes import (
    CAUSE_CLASSES,
    CAUSES,
    by_class,
    cause_class,
    cause_of,
    class_of,
    is_among,
    status_of,
)

ROOT = Path(tilehaul.__file__).parent


def causes_in_the_source() -> Iterator[str]:
    """What is written as `cause="..."` where an error is made, and the errors' own defaults."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name.endswith("Error") or name == "_damaged":
                for keyword in node.keywords:
                    if keyword.arg == "cause" and isinstance(keyword.value, ast.Constant):
                        yield str(keyword.value.value)
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.TransferError):
            yield kind.cause_default


def test_every_cause_that_is_raised_has_a_class() -> None:
    """A new cause goes into the table: this fails until it does."""
    found = set(causes_in_the_source())
    assert {"held", "mistyped", "refused_address", "throttled"} <= found
    assert {cause for cause in found if class_of(cause) == "other"} == set()


def test_every_cause_of_the_wire_has_a_class() -> None:
    named = [cause for table in (curl._REFUSED, curl._UNREACHABLE) for cause, _ in table.values()]
    assert {cause for cause in named if class_of(cause) == "other"} == set()
    assert class_of("tls_certificate") == class_of("curl_77") == "network"


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("http_429", "rate_limit"), ("pushed_back_503", "rate_limit"), ("pushed_back_403", "rate_limit"),
        ("held", "rate_limit"), ("throttled", "rate_limit"),
        ("dns", "network"), ("reset", "network"), ("cut", "network"), ("unreachable", "network"),
        ("timeout", "timeout"), ("timeout_first_byte", "timeout"), ("timeout_connect", "timeout"),
        ("http_500", "server"), ("http_503", "server"), ("http_408", "server"), ("http_425", "server"),
        ("http_304", "server"), ("http_399", "server"), ("http_600", "server"), ("redirect", "server"),
        ("http_400", "client"), ("http_401", "client"), ("http_499", "client"), ("denied", "client"),
        ("refused_address", "client"), ("bad_url", "client"),
        ("truncated", "body"), ("error_page", "body"), ("too_large", "body"), ("corrupt", "body"),
        ("busy", "other"), ("", "other"), ("weather", "other"), ("http_", "other"), ("http_5000", "other"),
        ("http_050", "other"), ("xhttp_500", "other"), ("http_٤٢٩", "other"), ("retimeout_x", "other"),
    ],
)  # fmt: skip
def test_cause_has_its_class(cause, expected) -> None:
    assert class_of(cause) == expected
    assert expected in CAUSE_CLASSES


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (errors.ThrottledError("x", cause="http_503"), "http_503", "rate_limit"),
        (errors.BrokenError("x", cause="http_503"), "http_503", "server"),
        (errors.UnreachableError("x"), "unreachable", "network"),
        (errors.TimedOutError("x", phase="idle"), "timeout_idle", "timeout"),
        (errors.DeniedError("x", cause="http_403"), "http_403", "client"),
        (errors.RefusedError("x", cause="too_large"), "too_large", "body"),
        (errors.DataError("x", cause="truncated"), "truncated", "body"),
        (errors.BusyError("x"), "busy", "other"),
        (errors.StorageError("x"), "", "other"),
    ],
)
def test_error_has_its_cause_and_class(error, cause, expected) -> None:
    assert (cause_of(error), cause_class(error)) == (cause, expected)


@pytest.mark.parametrize(
    ("cause", "status"),
    [("http_404", 404), ("pushed_back_503", 503), ("http_99", None), ("timeout_idle", None), ("", None)],
)
def test_cause_names_its_status(cause, status) -> None:
    assert status_of(cause) == status


@pytest.mark.parametrize(
    ("words", "among"),
    [([], True), (["http_502"], True), (["timeout", "server"], True), (["http_500", "client"], False)],
)
def test_cause_is_among_words_by_itself_or_by_its_class(words, among) -> None:
    assert is_among("http_502", words) is among


def test_no_fine_cause_is_called_as_another_class() -> None:
    """`--cause timeout` means the class: a cause of that name must be of it."""
    assert {cause: class_of(cause) for cause in CAUSES if cause in CAUSE_CLASSES} == {"timeout": "timeout"}


def test_counts_are_summed_by_class_in_the_order_of_the_table() -> None:
    counts = {"truncated": 1, "http_500": 2, "http_502": 3, "http_429": 4, "weather": 5, "dns": 0}
    summed = by_class(counts)
    assert list(summed.items()) == [("rate_limit", 4), ("server", 5), ("body", 1), ("other", 5)]
