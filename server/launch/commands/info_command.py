"""`thirdeye info`: a model described from its metadata alone, without torch, and whether it serves.

A refusal of a reader is a line; the exit status is 1 if there is one.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from rich.table import Table

from thirdeye.model.config import AttentionSpec, ModelConfig, RopeConfig
from thirdeye.model.declare.stored import MULTIPLIED
from thirdeye.model.memory_estimate import (
    FileSizes,
    bytes_per_state,
    int8_kv_per_token,
    kv_of_context,
    memory_estimates,
)
from thirdeye.model.parameter_counts import (
    ParameterCounts,
    head_matrices,
    idle_parameters,
    parameter_counts,
)
from thirdeye.server.api.state.generation_defaults import shown
from thirdeye.server.launch.commands.adapter_info import show_adapter
from thirdeye.server.launch.console import PlainConsole, fail
from thirdeye.server.launch.model_template import make_template
from thirdeye.server.text.templates.chat_template import ChatTemplate, ChatTemplateError
from thirdeye.server.text.templates.turn_end import find_turn_end
from thirdeye.server.text.tools.form import MARKUP
from thirdeye.weights.adapters.adapter_config import CONFIG as ADAPTER_CONFIG
from thirdeye.weights.checkpoint import Checkpoint
from thirdeye.weights.errors import ModelError
from thirdeye.weights.formats.suggested_sampling import SuggestedSampling
from thirdeye.weights.resolve import resolve_model
from thirdeye.weights.serves import Description, describe
from thirdeye.weights.tokenizers.tokenizer import Tokenizer


def show_info(spec: str | None, file: str | None = None, revision: str | None = None) -> int:
    """Shape, formats, template, memory, parameters, and whether `serve` would take it; of an
    adapter what it changes."""
    if spec is not None and (Path(spec) / ADAPTER_CONFIG).is_file():
        return show_adapter(Path(spec))
    try:
        path = resolve_model(spec, file, revision)
    except ModelError as error:
        return fail(str(error))
    found = describe(path, MARKUP)
    refusals = list(found.refusals)
    console = PlainConsole(soft_wrap=True)
    if found.checkpoint is None:
        console.print(f"{path}\n")
    else:
        config = found.checkpoint.config
        template, refusal = template_rows(found)
        refusals += [refusal] if refusal else []
        console.print(f"{found.checkpoint.name}   {path}\n")
        console.print(shape_table(config, file_rows(found) | template))
        sizes = file_sizes(found.checkpoint)
        for table in (
            memory_table(config, sizes),
            parts_table(parameter_counts(config), idle_parameters(config)),
        ):
            console.print()
            console.print(table)
    console.print(f"\nserves: {'no' if refusals else 'yes'}")
    for refusal in refusals:
        console.print(f"  {refusal}")
    return 1 if refusals else 0


def file_rows(found: Description) -> dict[str, str]:
    """What the files say besides the shape: types of tensors, and what to sample with."""
    assert found.checkpoint is not None
    formats = found.checkpoint.tensor_formats()
    by_count = sorted(formats.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "tensors": ", ".join(f"{count:,} {kind}" for kind, count in by_count),
        "sampling": sampling_line(found.sampling),
    }


def sampling_line(suggested: SuggestedSampling | None) -> str:
    """What requests get that do not say."""
    if suggested is None:
        return "cannot be read"
    values = shown(suggested.said())
    line = f"{values}, where a request does not say" if values else "nothing suggested"
    if suggested.not_obeyed:
        line += f"; not obeyed: {', '.join(suggested.not_obeyed)}"
    return line


def template_rows(found: Description) -> tuple[dict[str, str], str | None]:
    """What the template is and what ends an answer; and why it will not do, if so."""
    assert found.checkpoint is not None
    source, tokenizer = found.checkpoint.chat_template, found.tokenizer
    ends = {} if tokenizer is None else {"answers end at": ends_line(tokenizer, None)}
    if not source:
        return {"chat template": "none: completions only"} | ends, None
    if tokenizer is None:
        return {"chat template": "not tried, for there is no tokenizer"}, None
    try:
        template = make_template(source, found.checkpoint.tool_template, tokenizer)
    except ChatTemplateError as error:
        refusal = f"{error} Give another with '--chat-template FILE'."
        return {"chat template": "broken"} | ends, refusal
    form = template.reasoning_form
    return {
        "chat template": f"{len(source):,} characters, "
        + ("takes a system message" if template.takes_system else "drops a system message"),
        "tools": tools_line(template),
        "reasoning": f"its form is {form.name}" if form else "none",
        "answers end at": ends_line(tokenizer, find_turn_end(template, tokenizer.added_tokens)),
    }, None


def tools_line(template: ChatTemplate) -> str:
    if not template.for_tools.carries_tools:
        where = "the server writes them into the messages"
        if template.for_tools.carries_calls:
            return f"calls in the template's own form, {where}"
        return f"not in the template: {where}"
    if template.for_tools is template:
        return "in the template's own form"
    return "in the form of a template of their own, 'tool_use'"


def ends_line(tokenizer: Tokenizer, turn_end: str | None) -> str:
    """The tokens that end an answer: those of the files, and the template's."""
    names = {i: text for text, i in tokenizer.added_tokens.items()}
    ends = [names.get(i, f"token {i}") for i in sorted(tokenizer.eos_token_ids)]
    if turn_end is not None and turn_end not in ends:
        ends.append(f"{turn_end} (the template's end of a turn, which the files do not name)")
    return ", ".join(ends) or "none: only a limit ends them"


def file_sizes(checkpoint: Checkpoint) -> FileSizes | None:
    """Of a file that has blocks which are multiplied as they are stored."""
    if not any(name in MULTIPLIED for name in checkpoint.tensor_formats()):
        return None
    sizes = checkpoint.tensor_sizes()

    def size_of(parameters: Collection[str]) -> int:
        return sum(
            size
            for name, size in sizes.items()
            if any(target.name in parameters for target in checkpoint.targets(name) or [])
        )

    tables = size_of(("embed_tokens.weight",))
    widened = size_of(head_matrices(checkpoint.config))
    return FileSizes(tables, sum(sizes.values()) - tables, widened)


def memory_table(config: ModelConfig, sizes: FileSizes | None) -> Table:
    table = Table(
        *("--quantize", "", "weights, at most", "KV cache per token", "for one whole context"),
        box=None,
        pad_edge=False,
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for row in memory_estimates(config, sizes):
        table.add_row(
            *(row.quantize, row.device, megabytes(row.weights)),
            *(f"{row.kv_per_token / 1e3:,.1f} kB", megabytes(row.kv_of_context)),
        )
    in_int8 = int8_kv_per_token(config)
    context = kv_of_context(config, in_int8)
    table.add_row(
        *("any", "CPU, --kv-dtype int8", ""), f"{in_int8 / 1e3:,.1f} kB", megabytes(context)
    )
    return table


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.{0 if size >= 1e7 else 2}f} MB"


def rope_line(config: ModelConfig) -> str:
    """How tokens know where they are; which layers do it otherwise is told by number."""
    if config.has_learned_positions:
        return "learned"
    layers = config.attending_layers
    if any(config.attention_of(layer).alibi is not None for layer in layers):
        return "none, but ALiBi"
    counts = Counter(
        rope_words(config.attention_of(layer).rope, trained_size(config, layer)) for layer in layers
    )
    return "; ".join(f"{words}{of_layers(count, config)}" for words, count in counts.most_common())


def trained_size(config: ModelConfig, layer: int) -> int:
    """Of a head's queries, before they are led to latents."""
    latent = config.attention_of(layer).latent
    return config.head_dim_of(layer) if latent is None else latent.head_size


def rope_words(rope: RopeConfig | None, head_dim: int) -> str:
    if rope is None:
        return "none"
    line = f"rotary, theta {rope.theta:,.0f}"
    if rope.dim != head_dim:
        line += f", {rope.dim} of {head_dim} channels"
    if rope.scaling is not None:
        line += f", {rope.scaling.kind} times {rope.scaling.factor:g}"
        if rope.scaling.num_pairs:
            line += f", {2 * rope.scaling.num_pairs} of {head_dim} channels"
    return line


def window_line(config: ModelConfig) -> str:
    counts = Counter(window_words(spec) for spec in config.attention if spec.window or spec.chunk)
    windows = [f"{words}{of_layers(n, config)}" for words, n in counts.most_common()]
    return "; ".join(windows) or "none: every layer sees all"


def window_words(spec: AttentionSpec) -> str:
    return f"stretches of {spec.chunk:,}" if spec.chunk else f"of {spec.window:,}"


def of_layers(count: int, config: ModelConfig) -> str:
    total = config.num_hidden_layers
    return f" in {count} of {total} layers" if count < total else ""


def shape_table(config: ModelConfig, more: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "architecture": config.architecture,
        "context": f"{config.max_position_embeddings:,} tokens",
        "vocabulary": f"{config.vocab_size:,} tokens",
        "layers": str(config.num_hidden_layers),
        "residual stream": f"{config.hidden_size} wide",
        "attention heads": heads_line(config),
        **state_rows(config),
        "positions": rope_line(config),
        "windows": window_line(config),
        "norm": config.norm.value,
        **mlp_rows(config),
        "head": "tied to the embeddings" if config.tie_word_embeddings else "its own",
    }
    for name, value in (rows | more).items():
        table.add_row(name, value)
    return table


def heads_line(config: ModelConfig) -> str:
    """Layers may differ in their heads, and read others' keys and values."""
    counts = Counter(heads_words(config, layer) for layer in config.attending_layers)
    lines = [f"{words}{of_layers(count, config)}" for words, count in counts.most_common()]
    if num_reading := len(config.attending_layers) - len(config.keeping_layers):
        lines.append(f"the last {num_reading} read the keys and values of layers before")
    return "; ".join(lines)


def heads_words(config: ModelConfig, layer: int) -> str:
    num_kv_heads, latent = config.num_kv_heads_of(layer), config.attention_of(layer).latent
    line = f"{config.num_heads} of {trained_size(config, layer)}"
    if latent is not None:
        kept = f"{latent.kept_size} numbers a token, a latent of {latent.size}"
        return f"{line}, values of {latent.value_size}, over {kept} and a turned part"
    if num_kv_heads != config.num_heads:
        line += f", sharing {num_kv_heads} key-value heads"
    return line


def state_rows(config: ModelConfig) -> dict[str, str]:
    """Of layers that keep a state in place of keys and values."""
    if config.state is None:
        return {}
    size = megabytes(bytes_per_state(config))
    layers = of_layers(len(config.state_layers), config)
    return {"states": f"{config.state.words}{layers}, {size} for each sequence"}


def mlp_rows(config: ModelConfig) -> dict[str, str]:
    """Of the MLP that all tokens take, where there is one, and of experts."""
    kind = config.activation.value + (", gated" if config.gated_mlp else "")
    counts = Counter(config.mlp_size_of(layer) for layer in config.mlp_layers)
    sizes = [f"{size}{of_layers(n, config)}" for size, n in counts.most_common()]
    width = " and ".join(sizes) if config.mlp_sizes else str(config.intermediate_size)
    rows = {"MLP": f"{width} wide, {kind}"}
    total = len(config.mlp_layers)
    if (spec := config.experts) is None:
        return {"MLP": rows["MLP"] + of_layers(total, config)}
    num_dense = len(config.dense_layers)
    if not config.experts_beside:
        rows = {"MLP": f"{rows['MLP']}{of_layers(num_dense, config)}"} if num_dense else {}
    experts = f"{spec.num_chosen} of {spec.num_experts}, {spec.intermediate_size} wide, {kind}"
    if spec.shared_size:
        experts += f"; and one of {spec.shared_size} for all"
    return rows | {"experts": experts + of_layers(total - num_dense, config)}


def parts_table(counts: ParameterCounts, num_idle: int = 0) -> Table:
    """Parameters by part; shares are of the blocks' weights, where attention and MLP live.
    `num_idle`: of experts that a token does not take."""
    table = Table("parameters", "", "of all", "of attention + MLP", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    parts = [
        ("embeddings", counts.embeddings),
        ("positions", counts.positions),
        ("attention", counts.attention),
        ("  query", counts.query),
        ("  key", counts.key),
        ("  value", counts.value),
        ("  output", counts.output),
        ("state layers", counts.state),
        ("MLP", counts.mlp),
        ("routers", counts.router),
        ("norms", counts.norms),
        ("head", counts.head),
    ]
    shares = {"attention": counts.attention_share, "MLP": counts.mlp_share}
    for name, count in parts:
        if count:
            share = f"{shares[name]:.1%}" if name in shares else ""
            table.add_row(name, f"{count:,}", f"{count / counts.total:.1%}", share)
    table.add_row("total", f"{counts.total:,}", "100.0%")
    if num_idle:
        active = counts.total - num_idle
        table.add_row("a token takes", f"{active:,}", f"{active / counts.total:.1%}")
    return table
