"""The toy engine with words: its 40 tokens say something, so that grammars can speak about them."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tests.engine.toy import EOS, VOCAB, ToyCache, ToyModel, toy_config
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.sampling.sampler import Sampler, sample

SPECIAL = 1  # a token that is no text
WORDS = (
    *(bytes([c]) for c in b'{}[]:,"ab01-. \n'),
    *(b'"a"', b'":', b'{"', b'"}', b"ab", b"aba", b"ba", b"00", b"true", b"null", b"fal", b"se"),
    *(b"\xc3", b"\xa9", b"\xc3\xa9", b'a"', b', "'),
)
TOKENS = [b"<|end|>", b"<|turn|>", *WORDS, *(b"" for _ in range(VOCAB - 2 - len(WORDS)))]


def encode(text: str) -> list[int]:
    """Greedy: the longest token at each place."""
    raw, ids = text.encode(), []
    while raw:
        token_id = max(
            (i for i, t in enumerate(TOKENS) if i > SPECIAL and t and raw.startswith(t)),
            key=lambda i: len(TOKENS[i]),
        )
        ids.append(token_id)
        raw = raw[len(TOKENS[token_id]) :]
    return ids


def guidance(vocab_size: int = VOCAB) -> LLGuidanceCompiler:
    tokens = [*TOKENS, *[b""] * (vocab_size - VOCAB)]
    return LLGuidanceCompiler(
        tokens, special_token_ids=[EOS, SPECIAL], eos_token_ids=[EOS], encode=encode
    )


def text_of(token_ids: list[int]) -> str:
    return b"".join(TOKENS[i] for i in token_ids if i > SPECIAL).decode()


class ImmediateExecutor:
    """Works on what it is given while it is given: no thread, so a test's steps are its own."""

    def submit(self, tenant: str, work: Callable[[], Any], /) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        return future


def grammar_core(
    config: EngineConfig | None = None, sampler: Sampler = sample, model: ToyModel | None = None
) -> EngineCore:
    """The toy engine of `toy_core`, which can follow grammars."""
    config = config or toy_config()
    cache = ToyCache(config.num_blocks, config.block_size)
    runner = ModelRunner(model or ToyModel(), cache, config, "cpu", sampler)
    return EngineCore(
        config, runner, grammars=GrammarCompiler(guidance().compile, ImmediateExecutor())
    )
