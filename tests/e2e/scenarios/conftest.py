"""What the scenarios share."""

import pytest

from tilehaul.wiring import senders


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once: for scenarios about what is kept, not about when."""
    rule = senders.RetryRule
    monkeypatch.setattr(senders, "RetryRule", lambda **given: rule(**given, delay_s_first=0.001))
