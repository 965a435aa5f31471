"""`llm-comply`'s own cases against a live server, by its own client: all pass but images, which are
refused by name. That is 8 of 9 for chat, 12 of 13 for Responses, 8 of 9 for Messages.

The engine is a fake that says hello, calls the tool it is shown, or thinks, so what is judged is
the surface alone. The tool skips reasoning for models whose names it does not know to think, so the
model answers to such names. By hand, against a real model:

    llm-comply --base-url http://127.0.0.1:8000/v1 --api-key none -m smollm2 --format open-responses
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import pytest
from llm_comply import result, runner, test_case
from llm_comply.config import ComplianceConfig
from llm_comply.schema import SpecLoader
from llm_comply.tests import get_tests

from tests.api.openai.tools import state_of
from tests.api.reasoning.thinker import ANSWER, SWITCHED
from tests.api.support import EOS, VOCAB_SIZE, ByteTokenizer, live, says
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.text.templates.chat_template import ChatTemplate
from thirdeye.server.text.tools.form import write_call

SPECS = {"open-responses": "openresponses", "openai-chat": "openai_chat", "anthropic": "anthropic"}
MODELS = {
    "open-responses": "gpt-5-tiny",
    "openai-chat": "gpt-5-tiny",
    "anthropic": "claude-opus-tiny",
}
REASONING = ("reasoning-summary", "chat-reasoning-summary", "anth-thinking-display")
IMAGES = ("image-input", "chat-image-input", "anth-image-input")
# A case whose error is no error where the model is optional: `--require-model` makes it one.
NAMELESS = ("error-handling", "chat-error-handling")


def answer_to(request: Request) -> list[int]:
    prompt = bytes(i for i in request.prompt_token_ids if i < 256)
    if b"get_weather" in prompt:
        return says(write_call("get_weather", '{"location": "Paris"}'))
    return ANSWER if b"Show your reasoning" in prompt else says("Hello!")


@contextmanager
def served(config: ApiConfig) -> Iterator[str]:
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=8192)
    engine = FakeEngine(answer_to, info=info, eos_token_ids=[EOS])
    template = ChatTemplate(SWITCHED, ByteTokenizer())
    with live(state_of(engine, template=template, name_patterns=("*",)), config) as url:
        yield url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(ApiConfig(require_model=True)) as url:
        yield url


@pytest.fixture(scope="module")
def default_url() -> Iterator[str]:
    with served(ApiConfig()) as url:
        yield url


def run(url: str, name: str, case: test_case.TestCase) -> result.TestResult:
    config = ComplianceConfig(base_url=f"{url}/v1", api_key="none", model=MODELS[name], timeout=10)
    spec = SpecLoader(str(files("llm_comply.specs").joinpath(f"{SPECS[name]}.json")))
    return runner.TestRunner(config, [case], spec).run_one(case)


CASES = [pytest.param(name, case, id=case.id) for name in SPECS for case in get_tests(name)]
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_case(url: str, name: str, case: test_case.TestCase) -> None:
    found = run(url, name, case)
    if case.id in IMAGES:
        assert found.errors[0].startswith("HTTP 400")
    else:
        assert found.status is result.TestStatus.PASSED, found.errors
        assert case.id not in REASONING or not found.warnings


def test_how_many_there_are() -> None:
    counts = {name: len(get_tests(name)) for name in SPECS}
    assert counts == {"openai-chat": 9, "open-responses": 13, "anthropic": 9}


@pytest.mark.parametrize(
    ("name", "case"), [param for param in CASES if param.values[1].id in NAMELESS]
)
def test_by_default_a_request_without_a_model_is_none_of_the_errors(
    default_url: str, name: str, case: test_case.TestCase
) -> None:
    """One model is served, so none need be named: the case that wants an error gets an answer."""
    found = run(default_url, name, case)
    assert found.status is result.TestStatus.FAILED
    assert "200" in found.errors[0]
