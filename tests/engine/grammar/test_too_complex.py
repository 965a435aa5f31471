"""An answer that becomes too complex for its grammar ends as an error, never as a good stop."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engine.grammar.toy_grammars import ImmediateExecutor
from tests.engine.run_ahead.engines import toy_ahead
from tests.engine.toy import ToyCache, ToyModel, make_request, run_all, tokens_of, toy_config
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.interface.grammar_protocol import GrammarError, Matcher
from thirdeye.server.engine.interface.types import ErrorCode, FinishReason

NUM_FOLLOWED = 2


class SoonTooComplex:
    """Allows everything, until it cannot be followed any further."""

    is_over = False
    late = None

    def follow(self, token_ids: Sequence[int]) -> None:
        if len(token_ids) > NUM_FOLLOWED:
            raise GrammarError("too complex")

    def fill(self, mask: NDArray[np.int32]) -> None:
        mask[:] = -1


def compile_grammar(serialized: str, tenant: str) -> Matcher:
    return SoonTooComplex()


def plain_core() -> EngineCore:
    config = toy_config()
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(ToyModel(), cache, config, "cpu")
    grammars = GrammarCompiler(compile_grammar, ImmediateExecutor())
    return EngineCore(config, runner, grammars=grammars)


@pytest.mark.parametrize("is_ahead", [False, True])
def test_it_is_an_error_and_no_stop(is_ahead: bool) -> None:
    """The step whose token cannot be followed says nothing of an end; the next one meets it again
    and tells the request. Else nobody could tell half an answer from a whole one."""
    core = toy_ahead(compile_grammar=compile_grammar)[0] if is_ahead else plain_core()
    request = msgspec.structs.replace(make_request(ignore_eos=True), grammar="any")
    outputs = run_all(core, [request])["r"]
    assert len(tokens_of(outputs)) == NUM_FOLLOWED + 1
    last = outputs[-1]
    assert (last.finish_reason, last.error_code) == (FinishReason.ERROR, ErrorCode.INVALID_GRAMMAR)
    assert last.error == "too complex"
