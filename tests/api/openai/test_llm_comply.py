"""`llm-comply`'s own cases against a live server, by its own client.

The engine is a fake that says hello, or calls the tool it is shown, so what is judged is the
surface alone. By hand, against a real model:

    llm-comply --base-url http://127.0.0.1:8000/v1 --api-key none -m smollm2 --format open-responses
"""

from importlib.resources import files

import pytest
from llm_comply import result, runner, test_case
from llm_comply.config import ComplianceConfig
from llm_comply.schema import SpecLoader
from llm_comply.tests import get_tests

from tests.api.openai.tools import state_of
from tests.api.support import EOS, VOCAB_SIZE, live, says
from tests.engine.process.fake_engine import FakeEngine, fake_info
from thirdeye.server.api.http.api_config import ApiConfig
from thirdeye.server.engine.interface.types import Request
from thirdeye.server.text.tools.form import write_call

SPECS = {"open-responses": "openresponses", "openai-chat": "openai_chat", "anthropic": "anthropic"}
REASONING = ("reasoning-summary", "chat-reasoning-summary", "anth-thinking-display")
IMAGES = ("image-input", "chat-image-input", "anth-image-input")


def hello_or_call(request: Request) -> list[int]:
    is_call = b"get_weather" in bytes(i for i in request.prompt_token_ids if i < 256)
    return says(write_call("get_weather", '{"location": "Paris"}') if is_call else "Hello!")


@pytest.fixture(scope="module")
def url():
    info = fake_info(vocab_size=VOCAB_SIZE, max_model_len=8192)
    engine = FakeEngine(hello_or_call, info=info, eos_token_ids=[EOS])
    with live(state_of(engine), ApiConfig(require_model=True)) as url:
        yield url


CASES = [pytest.param(name, case, id=case.id) for name in SPECS for case in get_tests(name)]


@pytest.mark.parametrize(("name", "case"), CASES)
@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
def test_a_case(url: str, name: str, case: test_case.TestCase) -> None:
    """All pass, but images, which are refused by name, and reasoning, which the tool skips."""
    config = ComplianceConfig(base_url=f"{url}/v1", api_key="none", model="tiny", timeout=10)
    spec = SpecLoader(str(files("llm_comply.specs").joinpath(f"{SPECS[name]}.json")))
    found = runner.TestRunner(config, [case], spec).run_one(case)
    if case.id in IMAGES:
        assert found.errors[0].startswith("HTTP 400")
    elif found.status is not result.TestStatus.SKIPPED:
        assert found.status is result.TestStatus.PASSED, found.errors
    else:
        assert case.id in REASONING
