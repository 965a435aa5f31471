"""What the fake engine tells of a look inside: numbers of no meaning, in the real shapes."""

from array import array
from math import nan, prod

from thirdeye.server.engine.interface.interventions import variants_of
from thirdeye.server.engine.interface.trace import OF_KV_HEADS, STREAM, VECTORS, Array, TraceRequest

FAKE_LAYERS, FAKE_HEADS, FAKE_WIDTH, FAKE_HEAD_DIM = 3, 2, 4, 2


def fake_array(name: str, request: TraceRequest) -> Array:
    """Of one layer, in the shape of the real one."""
    num_tokens = len(request.token_ids)
    positions = request.positions or range(num_tokens)  # none: all of them
    heads, rows = len(request.heads) or FAKE_HEADS, len(positions)
    if name == "pattern":
        full = [[1 / (q + 1)] * (q + 1) + [0.0] * (num_tokens - q - 1) for q in positions]
        values = [value for _ in range(heads) for row in full for value in row]
        return Array([heads, rows, num_tokens], array("f", values).tobytes())
    if name == "scores":
        hidden = 1.0 if request.has_masked_scores else nan
        seen = [[1.0] * (q + 1) + [hidden] * (num_tokens - q - 1) for q in positions]
        values = [value for _ in range(heads) for row in seen for value in row]
        return Array([heads, rows, num_tokens], array("f", values).tobytes())
    shapes = {
        "norms": [len(STREAM), rows],
        "norm_stats": [2, rows, 4],
        "neurons": [rows, request.num_neurons, 2],
        "routing": [rows, 1, 2],
        "value_norms": [heads, num_tokens],
        "result": [heads, rows, FAKE_WIDTH],
        **{key: [heads, rows, FAKE_HEAD_DIM] for key in VECTORS},
        **{key: [1, rows, FAKE_HEAD_DIM] for key in OF_KV_HEADS},
    }
    return ones(shapes.get(name, [rows, FAKE_WIDTH]))


def ones(shape: list[int]) -> Array:
    return Array(shape, array("f", [1.0] * prod(shape)).tobytes())


def fake_endings(request: TraceRequest, num_layers: int) -> dict[str, Array]:
    """Arrays of the last trace."""
    found: dict[str, Array] = {}
    if request.vocabulary is not None:
        k, near = len(request.vocabulary.tokens), request.vocabulary.num_nearest
        found |= {"cosines": ones([k, k]), "random": ones([2])}
        found |= {"nearest": ones([k, near]), "nearest_cosines": ones([k, near])}
    if "norm_stats" in request.arrays:
        found["norm_stats"] = ones([len(request.positions), 4])
    if "surprisal" in request.endings:
        found["surprisal"] = ones([len(request.token_ids) - 1, 3])
    if "head_scores" in request.endings:
        found["head_scores"] = ones([3, num_layers, FAKE_HEADS])
    if request.edits or request.sweep:
        found |= {name: ones([6]) for name in ("base_effect", "effect")} | {"noise": ones([4])}
    if request.sweep and request.texts:
        found["source_effect"] = ones([6])
    if "attribution" in request.endings:
        found |= {f"attribution.{name}": ones([]) for name in FAKE_NUMBERS}
        for name in BY_LAYER:
            found[f"attribution.{name}"] = ones([num_layers])
        found["attribution.heads"] = ones([num_layers, FAKE_HEADS])
    return found


def fake_sweep(request: TraceRequest) -> list[dict[str, Array]]:
    """Arrays of the traces of a sweep: what all are read by, then pairs of variants."""
    assert request.sweep is not None
    first = {"base_effect": ones([6]), "noise": ones([4])}
    if request.texts:
        first["source_effect"] = ones([6])
    count = len(variants_of(request.sweep, FAKE_HEADS, [1] * FAKE_LAYERS))
    rows = [array("f", [number, number] + [1.0] * 5) for number in range(count)]
    pairs = [rows[start : start + 2] for start in range(0, count, 2)]
    told = [Array([len(pair), 7], b"".join(row.tobytes() for row in pair)) for pair in pairs]
    return [first, *({"variants": values} for values in told)]


BY_LAYER = (
    "attention_bias", "attention_rest", "state", "mlp", "layer_input", "stream_bias",
)  # fmt: skip
FAKE_NUMBERS = (
    "logit", "scale", "embed", "positions", "final_bias", "stream_rounding", "head_rounding",
)  # fmt: skip
