"""How much of a look inside may be asked for, and of which model.

Patterns grow with the square of the text, so besides tokens the bytes are bounded: of an answer in
one piece, which is held in memory whole, more tightly than of a stream. Each refusal says what to
leave out.
"""

from collections.abc import Sequence
from math import prod

from thirdeye.server.api.generation.request_rules import refuse
from thirdeye.server.api.introspection.inspect_request import InspectRequest
from thirdeye.server.api.introspection.interventions.number_fields import MAX_TOKENS
from thirdeye.server.api.state.server_state import ModelInfo
from thirdeye.server.engine.interface.trace import ARRAYS, OF_KV_HEADS, VECTORS, TraceRequest

MAX_LENS_TOKENS = 128  # the head is run at each of them, for the lens in every layer
MAX_WHOLE_BYTES = 8 * 2**20  # as float32; as JSON numbers it is about twice that
MAX_STREAM_BYTES = 32 * 2**20


def layers_of(body: InspectRequest, info: ModelInfo) -> list[int]:
    """The layers to tell of, in order, each once. Raises `InvalidRequest`."""
    if body.layers is None:
        return list(range(info.num_layers))
    return sorted(_numbers(body.layers, "layers", "a layer", info.num_layers))


def heads_of(body: InspectRequest, info: ModelInfo) -> list[int]:
    """The query heads to tell of, as they are asked for, each once. Raises `InvalidRequest`."""
    if body.heads is None:
        return list(range(info.num_heads))
    return _numbers(body.heads, "heads", "a head", info.num_heads)


def positions_of(body: InspectRequest, num_tokens: int) -> list[int]:
    """The tokens to tell of, as they are asked for, each once. Raises `InvalidRequest`."""
    if body.positions is None:
        return list(range(num_tokens))
    return resolved(body.positions, num_tokens, "positions")


def resolved(positions: Sequence[int], num_tokens: int, param: str) -> list[int]:
    """Counted from 0, each once; negative ones are from the end. Raises `InvalidRequest`."""
    for i, position in enumerate(positions):
        if not -num_tokens <= position < num_tokens:
            rule = f"must be a token between {-num_tokens} and {num_tokens - 1}, got {position}."
            raise refuse(f"{param}[{i}]", rule)
    return list(dict.fromkeys(position % num_tokens for position in positions))


def _numbers(numbers: Sequence[int], param: str, what: str, count: int) -> list[int]:
    for i, number in enumerate(numbers):
        if not 0 <= number < count:
            rule = f"must be {what} between 0 and {count - 1}, got {number}."
            raise refuse(f"{param}[{i}]", rule)
    return list(dict.fromkeys(numbers))


def check_parts(body: InspectRequest, info: ModelInfo) -> None:
    """Raises `InvalidRequest` for what this model does not have."""
    for i, part in enumerate(body.include):
        if part in info.untold:
            raise refuse(f"include[{i}]", f"'{part}' cannot be told: {info.untold[part]}.")


def check_length(body: InspectRequest, num_tokens: int, param: str) -> None:
    """Raises `InvalidRequest` for a text that is too long to be looked into so."""
    if num_tokens > MAX_TOKENS:
        rule = f"must be at most {MAX_TOKENS} tokens long to be looked into, got {num_tokens}."
        raise refuse(param, rule, "context_length_exceeded")
    has_lens = "logit_lens" in body.include or body.lens_tokens
    if has_lens and body.lens_positions == "all" and num_tokens > MAX_LENS_TOKENS:
        rule = f"'all' is for at most {MAX_LENS_TOKENS} tokens, got {num_tokens}: use 'last'."
        raise refuse("lens_positions", rule)


def check_size(trace: TraceRequest, is_stream: bool, info: ModelInfo) -> None:
    """Raises `InvalidRequest` for an answer that would be too large."""
    asked = [name for name in ARRAYS if name in trace.arrays]
    sizes = (size_of(name, layer, trace, info) for layer in trace.layers for name in asked)
    num_bytes = 4 * sum(sizes)
    limit = MAX_STREAM_BYTES if is_stream else MAX_WHOLE_BYTES
    if num_bytes > limit:
        way_out = "" if is_stream else "set 'stream': true, "
        raise refuse(
            "include",
            f"asks for {num_bytes:,} bytes of numbers at {len(trace.token_ids)} tokens and "
            f"{len(trace.layers)} layers, at most {limit:,} are given: {way_out}name fewer "
            "'layers', 'heads' or 'positions', or less here.",
            "request_too_large",
        )


def size_of(name: str, layer: int, trace: TraceRequest, info: ModelInfo) -> int:
    """How many numbers one layer's array has."""
    rows, num_tokens = len(trace.positions), len(trace.token_ids)
    key_dim, value_dim = info.key_dim_of(layer), info.head_dim_of(layer)
    heads = 0 if layer in info.absent.get("head", ()) else len(trace.heads)
    kv_heads = min(heads, info.num_kv_heads_of(layer))
    experts = info.design.experts
    shapes: dict[str, tuple[int, ...]] = {
        "pattern": (heads, rows, num_tokens),
        "scores": (heads, rows, num_tokens),
        "norms": (5, rows),
        "norm_stats": (2, rows, 4),
        "neurons": (rows, trace.num_neurons, 2),
        "routing": (rows, experts.num_chosen if experts else 0, 2),
        "value_norms": (heads, rows if info.design.gated_heads else 1, num_tokens),
        "result": (heads, rows, info.hidden_size),
        **dict.fromkeys(VECTORS, (heads, rows, key_dim)),
        **dict.fromkeys(OF_KV_HEADS, (kv_heads, rows, key_dim)),
        "z": (heads, rows, value_dim),
        "v": (kv_heads, rows, value_dim),
    }
    return prod(shapes.get(name, (rows, info.hidden_size)))
