"""The engine's side of the composition root: a recipe becomes an engine, in its own process.

Its `main` is run by `server/load/engine_main.py`. Together with `server/launch/replica.py` this
is the only place that joins `weights/`, `model/` and `server/engine/`.
"""

import logging
import socket
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import torch

from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.config import ModelConfig
from thirdeye.model.fast_path import FastPath
from thirdeye.model.loading.compiled_cache import repair_compiled_cache
from thirdeye.model.loading.import_torch import import_rest
from thirdeye.model.loading.layer_loader import ModelLoader
from thirdeye.model.memory_estimate import bytes_per_state
from thirdeye.model.native.library import Library
from thirdeye.model.parallel.shares import rank_config
from thirdeye.model.placement import Placement
from thirdeye.model.state.choose_kv import make_kv_cache
from thirdeye.model.state.kv_cache import kv_bytes_per_block
from thirdeye.model.state.kv_groups import kv_groups
from thirdeye.model.transformer import Transformer
from thirdeye.server import logs
from thirdeye.server.engine.cache.kv_budget import plan_kv, plan_states
from thirdeye.server.engine.core.engine_core import EngineCore, is_out_of_memory
from thirdeye.server.engine.core.warmup import prompt_lengths, warm_up
from thirdeye.server.engine.distributed.leader import end_process
from thirdeye.server.engine.drafting.each_text import EachText
from thirdeye.server.engine.drafting.first_of import FirstOf
from thirdeye.server.engine.drafting.prompt_lookup import PromptLookup
from thirdeye.server.engine.execution.input_batch import NO_SLOTS
from thirdeye.server.engine.execution.model_runner import ModelRunner
from thirdeye.server.engine.grammar.compiler import GrammarCompiler
from thirdeye.server.engine.grammar.llguidance_matcher import LLGuidanceCompiler
from thirdeye.server.engine.grammar.once import Once
from thirdeye.server.engine.grammar.processes.process_matcher import MatcherProcesses
from thirdeye.server.engine.inspection.layer_inspector import MAX_ROWS, LayerInspector
from thirdeye.server.engine.interface.engine_config import (
    BLOCK_SIZE,
    MOST_ON_CPU,
    STEP_SECONDS,
    Admission,
    EngineConfig,
    default_batched_tokens,
)
from thirdeye.server.engine.interface.types import EngineDead, EngineInfo
from thirdeye.server.engine.process.engine_process import OnEnd, OnProgress, serve_engine
from thirdeye.server.engine.run_ahead.device_loop import LoopSizes
from thirdeye.server.engine.sampling.native_sampler import NativeSampler
from thirdeye.server.engine.sampling.sampler import Sampler, sample
from thirdeye.server.load.adapters.adapter_files import make_adapter_loader
from thirdeye.server.load.drafting.choose_guesser import choose_guesser
from thirdeye.server.load.drafting.guesser import Guesser
from thirdeye.server.load.drafting.text_guesses import LOOKS_BACK, choose_text_guesses
from thirdeye.server.load.engine_info import describe, describe_numerics
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.server.load.kv_memory import find_kv_budget, is_run_ahead
from thirdeye.server.load.other_hosts import check_remote
from thirdeye.server.load.overlap import SCRAP_BLOCKS, make_launcher, num_state_rows
from thirdeye.server.load.placement import place, place_kv
from thirdeye.server.load.tensor_parallel import (
    make_rank_group,
    pin_threads,
    ranks_of_leader,
    use_threads,
)
from thirdeye.server.text.tools.form import ANSWER_MARKUP, MARKUP, encode_with_tags
from thirdeye.weights.checkpoint import open_checkpoint
from thirdeye.weights.errors import ModelError, ModelFormatError
from thirdeye.weights.load import WeightSource, check_described, load_weights
from thirdeye.weights.tokenizers.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def load_engine(
    recipe: EngineRecipe, on_progress: OnProgress, on_end: OnEnd = end_process
) -> tuple[EngineCore, EngineInfo]:
    """Weights into a transformer, memory into KV blocks, both into an engine.

    `on_end` is called with the reason, by another thread, when a rank is gone: it ends the process.
    Raises ValueError, OSError or ModelFormatError with a text for the operator.
    """
    check_remote(recipe)
    ranks_here = ranks_of_leader(recipe)
    use_threads(recipe, ranks_here)
    checkpoint = open_checkpoint(Path(recipe.model_path))
    where = place(recipe, 0, ranks_here)
    if where.device.type != "cpu" or recipe.placement.tensor_parallel > 1:
        import_rest()  # of torch: what GPUs and ranks do without it was not tried
    pin_threads(recipe, where)
    own = rank_config(checkpoint.config, recipe.placement.tensor_parallel)
    chosen = choose_guesser(recipe, checkpoint)
    rank_group = make_rank_group(
        recipe, where, lambda: checkpoint.fingerprint, partial(on_progress, "ranks"), on_end
    )
    where = replace(where, ranks=rank_group.ranks)
    device, kv_dtype = where.device, place_kv(recipe, where)
    repair_compiled_cache(device)
    # Half a second of a core, in which much holds the interpreter: neither a start nor a stream is
    # to wait for it, so it is made while there is nothing to do, or for the first grammar.
    tokenizer = Once(partial(load_tokenizer, recipe, checkpoint.fingerprint))
    guidance = Once(lambda: load_guidance(recipe, tokenizer()))
    grammars = GrammarCompiler(
        lambda grammar, tenant: guidance().compile(grammar, tenant),
        think=lambda request, inner: guidance().vocabulary.matcher(request, inner),
        callers=MatcherProcesses(guidance),
    )
    model = load_model(
        checkpoint,
        recipe.kernels.attention,
        where,
        on_progress,
        recipe.scheduling.max_model_len,
        recipe.max_adapters,
    )
    rank_group.wait_loaded()
    is_ahead = is_run_ahead(recipe, model, device)
    fast_paths = [model.tape]
    guesser: Guesser | None = None
    if chosen is not None:
        if is_ahead and chosen.why_not_ahead:
            recipe, is_ahead = chosen.without_steps_ahead(recipe), False
            ahead = FastPath("step ahead")
            ahead.refuse(chosen.why_not_ahead)
            fast_paths.append(ahead)
        guesser = chosen.load(
            model,
            where,
            kv_dtype,
            lambda it, there: load_model(it, recipe.kernels.attention, there, on_progress),
        )
    budget, memory = find_kv_budget(recipe, model, kv_dtype, device, rank_group, guesser)
    if device.type == "cuda" and recipe.max_adapters and recipe.cache.kv_memory is None:
        budget -= recipe.max_adapter_bytes  # of what is left beside the weights
    draft_budget = guesser.share_of(budget, own) if guesser else 0
    budget -= draft_budget
    config = engine_config(recipe, own, kv_dtype, device, budget, steps_ahead=int(is_ahead))
    inspection_rows = min(MAX_ROWS, config.max_num_batched_tokens)
    num_blocks = config.num_blocks + SCRAP_BLOCKS * is_ahead
    num_states = num_state_rows(config.num_states, is_ahead=is_ahead)
    rank_group.init_caches(
        num_blocks,
        config.block_size,
        inspection_rows,
        num_states=num_states,
        loop=LoopSizes.of(config, config.max_model_len) if is_ahead else None,
    )
    kv_cache = make_kv_cache(
        own, num_blocks, config.block_size, kv_dtype, device, num_states, kv_groups(own)
    )
    sampler = choose_sampler(where.native)
    made = None if guesser is None else guesser.make(config, draft_budget, sampler)
    launcher = None
    if is_ahead:
        timeout = recipe.placement.rank_timeout
        on_device = None if made is None else made.on_device
        launcher = make_launcher(model, kv_cache, config, device, rank_group, timeout, on_device)
    adapters = make_adapter_loader(
        rank_group.wrap_adapters(model.adapters),
        checkpoint.config,
        where.dtype,
        recipe.max_adapter_bytes,
    )
    runner = ModelRunner(
        rank_group.wrap(model),
        kv_cache,
        config,
        device,
        sampler,
        NO_SLOTS if model.adapters is None else model.adapters.slots,
        tells_hidden=guesser is not None and guesser.reads_hidden,
        decode=model.decoder(kv_cache),
    )
    warm_up(runner, config, prompt_lengths(device, config.max_num_batched_tokens))
    model.tape.num_missed = 0  # the steps of the warm-up are nobody's
    numerics = describe_numerics(model, where, kv_dtype) + (", graphs" if is_ahead else "")
    guesses = FastPath("guesses")
    if refused := choose_text_guesses(recipe, own, is_ahead=is_ahead).refused:
        guesses.refuse(refused)
    elif config.most_rows_verified:
        guesses.interrupt(LOOKS_BACK)
    if guesses.reason:
        fast_paths.append(guesses)
    if launcher is not None and adapters is not None:
        launcher.fast_path.refuse("rows with adapters are computed step by step")
        fast_paths.append(launcher.fast_path)
    proposer = None  # prompt lookup alone
    if made is not None:
        proposer = FirstOf(EachText(PromptLookup), made.proposer)
    inspector = rank_group.wrap_inspector(LayerInspector(model, device, inspection_rows, kv_dtype))
    core = EngineCore(
        config,
        runner,
        inspect=inspector,
        grammars=grammars,
        launcher=launcher,
        fast_paths=fast_paths,
        adapters=adapters,
        proposer=proposer,
        prepare=(tokenizer, guidance),
    )
    info = describe(checkpoint.config, config, where, numerics, memory, *fast_paths)
    return core, msgspec.structs.replace(
        info,
        max_adapters=recipe.max_adapters,
        max_adapter_bytes=recipe.max_adapter_bytes,
        draft=str(guesser or ""),
    )


def choose_sampler(native: Library | None) -> Sampler:
    """What chooses the tokens of steps that are not launched ahead."""
    return sample if native is None else NativeSampler(native)


def load_model(
    checkpoint: WeightSource,
    attention: str,
    where: Placement,
    on_progress: OnProgress,
    context: int | None = None,
    max_adapters: int = 0,
) -> Transformer:
    """The checkpoint's weights in a transformer of its shape, for texts of up to `context`."""
    check_described(checkpoint)
    model = empty_model(checkpoint.config, attention, where, context, max_adapters)
    loader = ModelLoader(model)
    load_weights(checkpoint, loader, partial(on_progress, "weights"))
    loader.finish()
    return model


def empty_model(
    config: ModelConfig,
    attention: str,
    where: Placement,
    context: int | None = None,
    max_adapters: int = 0,
) -> Transformer:
    """To be filled. Raises ValueError if the attention cannot run there."""
    backend = choose_attention(
        attention, where.device, where.native, is_deterministic=where.is_deterministic
    )
    return Transformer(
        config,
        backend,
        dtype=where.dtype,
        device=where.device,
        quantize=where.quantize,
        native=where.native,
        ranks=where.ranks,
        is_deterministic=where.is_deterministic,
        context=context,
        max_adapters=max_adapters,
    )


def load_tokenizer(recipe: EngineRecipe, fingerprint: str) -> Tokenizer:
    """The checkpoint's vocabulary, read once more, and as grammars know it: the marks of tool calls
    and of thinking are text. Raises `ModelFormatError` if what lies at its path now is not what is
    served: a checkpoint of another `fingerprint`."""
    checkpoint = open_checkpoint(Path(recipe.model_path))
    if checkpoint.fingerprint != fingerprint:
        raise ModelFormatError(
            checkpoint.path, "has changed since it was loaded: start the server again."
        )
    return checkpoint.tokenizer(never_from_text=MARKUP)


def load_guidance(recipe: EngineRecipe, tokenizer: Tokenizer) -> LLGuidanceCompiler:
    """Grammars over that vocabulary, where marks that are tokens of their own are text too, but for
    what ends an answer."""
    eos_token_ids = recipe.eos_token_ids
    hidden = [
        token_id
        for text, token_id in tokenizer.special_tokens.items()
        if token_id in eos_token_ids or text not in ANSWER_MARKUP
    ]
    return LLGuidanceCompiler(
        [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)],
        special_token_ids=hidden,
        eos_token_ids=eos_token_ids,
        encode=partial(encode_with_tags, tokenizer=tokenizer),
    )


def engine_config(
    recipe: EngineRecipe,
    model: ModelConfig,
    kv_dtype: torch.dtype,
    device: torch.device,
    budget: int,
    steps_ahead: int = 0,
) -> EngineConfig:
    """The scheduler's sizes, from what was asked and what the memory holds.

    `model` is a rank's; so many bytes of keys and values fit on each.
    """
    state_size = bytes_per_state(model)
    num_states = plan_states(
        budget=budget, bytes_per_state=state_size, max_num_seqs=recipe.scheduling.max_num_seqs
    )
    num_tokens, step_seconds = recipe.scheduling.max_num_batched_tokens, 0.0
    if num_tokens is None:
        num_tokens = default_batched_tokens(device.type, recipe.scheduling.max_num_seqs)
        if device.type == "cpu":
            num_tokens, step_seconds = max(num_tokens, MOST_ON_CPU), STEP_SECONDS
    groups = kv_groups(model)
    num_blocks, max_model_len = plan_kv(
        budget=budget - num_state_rows(num_states, is_ahead=steps_ahead > 0) * state_size,
        bytes_per_block=kv_bytes_per_block(model, BLOCK_SIZE, kv_dtype, groups),
        block_size=BLOCK_SIZE,
        context=model.max_position_embeddings,
        asked=recipe.scheduling.max_model_len,
        windows=groups.windows,
        num_ahead=num_tokens * (1 + steps_ahead),
    )
    return EngineConfig(
        max_model_len=max_model_len,
        num_blocks=num_blocks,
        block_size=BLOCK_SIZE,
        num_states=num_states,
        windows=groups.windows,
        steps_ahead=steps_ahead,
        max_num_seqs=recipe.scheduling.max_num_seqs,
        max_num_batched_tokens=num_tokens,
        step_seconds=step_seconds,
        eos_token_ids=recipe.eos_token_ids,
        enable_prefix_caching=recipe.cache.prefix_caching,
        admission=Admission(recipe.scheduling.admission),
        queue_timeout=recipe.scheduling.queue_timeout,
        request_timeout=recipe.scheduling.request_timeout,
        num_draft_tokens=choose_text_guesses(recipe, model, is_ahead=steps_ahead > 0).most,
        max_tokens_with_drafts=recipe.speculation.max_tokens_with_drafts,
    )


def load(recipe: bytes, on_progress: OnProgress, on_end: OnEnd) -> tuple[EngineCore, EngineInfo]:
    """What the operator can mend is told in words; anything else is a bug and keeps its stack."""
    told = msgspec.msgpack.decode(recipe, type=EngineRecipe)
    logs.configure(told.log_level, told.log_format)
    try:
        return load_engine(told, on_progress, on_end)
    except (ValueError, OSError, ModelError) as error:
        raise EngineDead(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise EngineDead(
            f"There is not enough memory for the model ({type(error).__name__}): lower "
            "'--kv-memory' or '--max-model-len', or '--quantize' it."
        ) from error


def main() -> int:
    return serve_engine(socket.socket(fileno=int(sys.argv[-1])), load)
