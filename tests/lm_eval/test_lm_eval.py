"""lm-eval gets the same numbers from our server as from `transformers` on the same weights.

By hand, since lm-eval is no dependency of the project: docs/conformance.md has the command.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.lm_eval.compare import Likelihood, by_server, by_transformers, compare, serving
from tests.tiny import tiny_llama

pytestmark = [
    pytest.mark.prove,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed"),
]
TOLERANCE = 1e-4  # of a sum of logarithms, in fp32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm-eval") / "model"
    tiny_llama(path)
    return path


@pytest.fixture(scope="module")
def url(checkpoint: Path) -> Iterator[str]:
    with serving(checkpoint) as url:
        yield url


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> list[Likelihood]:
    return by_transformers(checkpoint, checkpoint.parent / "hf")


@pytest.mark.parametrize("backend", ["huggingface", "remote"])
def test_loglikelihoods_equal_those_of_transformers(
    url: str, checkpoint: Path, reference: list[Likelihood], backend: str, tmp_path: Path
) -> None:
    """Echoed logprobs are the model's own, token by token, whoever cuts the text into tokens."""
    found = compare(by_server(url, checkpoint, backend, tmp_path / "out"), reference)
    assert found.num_choices > 80
    assert found.max_difference <= TOLERANCE
    assert found.num_greedy_differing == 0
