"""What the scenarios share."""

import pytest

from tilehaul.wiring import places


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once: for scenarios about what is kept, not about when."""
    rule = places.RetryRule
    monkeypatch.setattr(places, "RetryRule", lambda **given: rule(**given, delay_s_first=0.001))
