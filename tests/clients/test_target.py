"""Which server, which key: argument, environment, default."""

import pytest

from thirdeye.clients.target import DEFAULT_BASE_URL, Target

ENVIRON = {"OPENAI_BASE_URL": "http://env:1/v1", "OPENAI_API_KEY": "sk-env"}


def test_the_argument_wins_over_the_environment_over_the_default() -> None:
    assert Target.find("http://arg/v1", "sk-arg", ENVIRON) == Target("http://arg/v1", "sk-arg")
    assert Target.find(None, None, ENVIRON) == Target("http://env:1/v1", "sk-env")
    assert Target.find(None, None, {}) == Target(DEFAULT_BASE_URL, None)
    assert Target.find("", "", {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": ""}).api_key is None


@pytest.mark.parametrize(
    ("given", "models", "health"),
    [
        ("http://h", "http://h/v1/models", "http://h/health"),
        ("http://h/", "http://h/v1/models", "http://h/health"),
        ("http://h:8/v1/", "http://h:8/v1/models", "http://h:8/health"),
        ("https://h/api/v1", "https://h/api/v1/models", "https://h/api/health"),
        ("https://h/openai", "https://h/openai/models", "https://h/openai/health"),
        ("http://[::1]:8000", "http://[::1]:8000/v1/models", "http://[::1]:8000/health"),
    ],
)
def test_urls(given: str, models: str, health: str) -> None:
    target = Target.find(given, None, {})
    assert (target.url("models"), target.url("/health")) == (models, health)


@pytest.mark.parametrize("bad", ["localhost:8000", "ftp://h/v1", "http://", "127.0.0.1", "x y"])
def test_a_url_that_is_none(bad: str) -> None:
    with pytest.raises(ValueError, match="'base_url' must be like http://"):
        Target.find(bad, None, {})


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8000", True),
        ("http://localhost", True),
        ("http://api.localhost", True),
        ("http://10.0.0.1", False),
        ("https://example.com", False),
        ("http://localhost.example.com", False),
    ],
)
def test_loopback(url: str, is_loopback: bool) -> None:
    assert Target.find(url, None, {}).is_loopback is is_loopback
