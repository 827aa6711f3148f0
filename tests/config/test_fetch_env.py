"""The benchmark's four variables."""

import pytest

from tilehaul.config.fetch_env import FetchEnv, read_fetch_env, template_of
from tilehaul.errors import ConfigError


def test_what_is_set_is_read_and_the_rest_is_unknown() -> None:
    environ = {
        "TILE_BASE_URL": "http://127.0.0.1:8001/",
        "MAX_CONCURRENCY": "50",
        "TIMEOUT_SECONDS": "1.5",
        "RETRIES": "0",
    }
    said = read_fetch_env(environ)
    assert said == FetchEnv("http://127.0.0.1:8001/", 50, 1.5, 0)
    assert said.template == "http://127.0.0.1:8001/{z}/{x}/{y}.png"
    assert read_fetch_env(dict.fromkeys(environ, "")) == FetchEnv()
    assert FetchEnv().template is None


def test_base_that_is_a_template_is_taken_as_it_is() -> None:
    assert template_of("https://h/{z}/{y}/{x}.jpg") == "https://h/{z}/{y}/{x}.jpg"
    assert template_of("https://h/tiles") == "https://h/tiles/{z}/{x}/{y}.png"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MAX_CONCURRENCY", "many"),
        ("MAX_CONCURRENCY", "0"),
        ("MAX_CONCURRENCY", "2.5"),
        ("TIMEOUT_SECONDS", "0"),
        ("TIMEOUT_SECONDS", "-1"),
        ("TIMEOUT_SECONDS", "inf"),
        ("TIMEOUT_SECONDS", "nan"),
        ("TIMEOUT_SECONDS", "1e300"),
        ("RETRIES", "-1"),
        ("RETRIES", "two"),
    ],
)
def test_nonsense_names_the_variable(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}={text}"):
        read_fetch_env({name: text})
