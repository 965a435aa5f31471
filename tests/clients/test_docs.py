"""The examples of docs/clients.md, run one after another as a reader would type them."""

import doctest
import re
from pathlib import Path

import pytest

from tests.clients.stub import Received, Stub, error, polite, reply_parts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"


def test_the_examples_are_true(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the stub: what it is asked decides what it says, so the page can show it all."""

    def answer(request: Received) -> object:
        if b'"temperature":9' in request.raw.replace(b" ", b""):
            rule = "'temperature' must be between 0 and 2, got 9."
            return reply_parts(error(rule, param="temperature"), 400)
        return polite(request)

    monkeypatch.setattr("tests.clients.stub.polite", answer)
    monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
    text = PAGE.read_text()
    (setup,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    names: dict[str, object] = {}
    exec(setup, names)  # noqa: S102  (our own page)
    examples = "\n".join(re.findall(r"```pycon\n(.*?)```", text, flags=re.S))
    test = doctest.DocTestParser().get_doctest(examples, names, "clients.md", str(PAGE), 0)
    result = doctest.DocTestRunner().run(test, clear_globs=False)
    test.globs["client"].close()
    assert result.attempted >= 15
    assert result.failed == 0
