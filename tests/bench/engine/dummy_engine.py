"""An engine in this process with the default model's shape and random weights, for benchmarks."""

import torch

from tests.engine.grammar.toy_grammars import ImmediateExecutor
from tests.weights.dummy import load_dummy_weights
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.bench.model_shapes import SMOLLM2_135M
from thirdeye.server.engine.core.engine_core import EngineCore
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.inspection.layer_inspector import LayerInspector
from thirdeye.server.engine.interface.engine_config import EngineConfig
from thirdeye.server.engine.interface.grammar_protocol import CompileGrammar


def dummy_core(
    *,
    max_model_len: int,
    max_num_batched_tokens: int,
    num_blocks: int | None = None,
    enable_prefix_caching: bool = True,
    model: Transformer | None = None,
    compile_grammar: CompileGrammar | None = None,
) -> EngineCore:
    """`num_blocks` defaults to two full contexts. Pass `model` to load the weights once."""
    config = EngineConfig(
        max_model_len=max_model_len,
        num_blocks=num_blocks or 2 * -(-max_model_len // 16),
        max_num_batched_tokens=max_num_batched_tokens,
        enable_prefix_caching=enable_prefix_caching,
    )
    model = model or dummy_model()
    device = torch.device("cpu")
    kv_cache = KVCache(model.config, config.num_blocks, 16, torch.float32, device)
    runner = ModelRunner(model, kv_cache, config, device)
    grammars = GrammarCompiler(compile_grammar, ImmediateExecutor()) if compile_grammar else None
    return EngineCore(config, runner, inspect=LayerInspector(model, device), grammars=grammars)


def dummy_model() -> Transformer:
    device = torch.device("cpu")
    model = Transformer(
        SMOLLM2_135M, choose_attention("auto", device), dtype=torch.float32, device=device
    )
    load_dummy_weights(SMOLLM2_135M, 0, model)
    model.finish()
    return model
