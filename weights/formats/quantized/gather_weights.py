"""From the names in the files to weights: tensors that stand for one matrix come together."""

from collections import defaultdict
from collections.abc import Mapping

from thirdeye.weights.formats.quantized.quantized_weight import Method, Parts, QuantizedWeight
from thirdeye.weights.formats.safetensors import ShardEntry

Weights = dict[str, ShardEntry | QuantizedWeight]


def gather_weights(tensors: Mapping[str, ShardEntry], method: Method | None) -> Weights:
    """By the names that an unquantized checkpoint would have, in the order of the files."""
    if method is None:
        return dict(tensors)
    ends = sorted(method.suffixes, key=len, reverse=True)  # ".weight.absmax" before ".absmax"
    weights: Weights = {}
    modules: defaultdict[str, dict[str, ShardEntry]] = defaultdict(dict)
    for name, entry in tensors.items():
        end = next((end for end in ends if name.endswith(end)), None)
        if end is not None:
            modules[name.removesuffix(end)][end[1:]] = entry
        elif not name.endswith(method.unused):
            weights[name] = entry
    for module, entries in modules.items():
        weight = method.weight(Parts(module, entries))
        found: Weights = {weight.name: weight} if weight else {e.name: e for e in entries.values()}
        for name in found.keys() & weights.keys():
            raise next(iter(entries.values())).error(f"stands for '{name}', which is there too.")
        weights |= found
    return weights
