"""How many kernels a decode step launches, and what goes through memory beside weights and keys.

    TRITON_INTERPRET=0 python -m tests.fake_gpu.launches

One line of JSON. A step is computed on tensors without memory, at the sizes of the real models. An
operation of torch that is no view and no allocation counts as one kernel, which it is at least.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fake_gpu import driver
from tests.fake_gpu.engine import MULTIPROCESSORS, make_model, pretending
from tests.fake_gpu.forms import WITH_STATES, ServedForm
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.server.bench.model_shapes import LLAMA3_8B, QWEN3_0_6B
from thirdeye.server.engine.run_ahead.cuda_graphs import rerun
from thirdeye.server.engine.run_ahead.decode_step import DecodeGraphs
from thirdeye.server.engine.run_ahead.device_sampler import GREEDY_MODE, DeviceSampler
from thirdeye.server.engine.run_ahead.device_state import DeviceState, StateLayout

META = torch.device("meta")
BLOCK_SIZE, CONTEXT = 16, 8192
NO_KERNEL = ("empty", "new_empty", "empty_like", "empty_strided", "detach", "lift_fresh", "alias")
READS_ROWS = ("index", "index_select", "embedding", "gather", "index_copy_", "index_add_")
MODELS = {"8B": LLAMA3_8B, "0.6B": QWEN3_0_6B}
BATCHES = (1, 8, 64)
VERIFIED = 8  # rows of a step that verifies guesses, all but some of which are these


class Counter(TorchDispatchMode):  # type: ignore[misc]  # torch leaves it untyped
    """Operations that launch something, by name, and bytes that they and kernels read and write.
    Whole tensors count, but those that are set `apart`, and tables of which rows are read."""

    def __init__(self, apart: Iterable[Tensor]) -> None:
        super().__init__()
        self.names: list[str] = []
        self.num_bytes = 0
        self._apart = {memory_of(tensor) for tensor in apart}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        name = function.overloadpacket.__name__
        if not function.is_view and name not in NO_KERNEL and not _is_same(arguments, result):
            self.names.append(name)
            read = [] if name in READS_ROWS else [a for a in arguments if isinstance(a, Tensor)]
            self.note([*read, result])
        return result

    def note(self, tensors: list[Any]) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor) and memory_of(tensor) not in self._apart:
                self.num_bytes += tensor.nbytes


def memory_of(tensor: Tensor) -> int:
    """The same for all views of it."""
    return int(tensor.untyped_storage()._cdata)


def _is_same(arguments: Any, result: Any) -> bool:
    """A conversion to what something is already."""
    return bool(arguments) and result is arguments[0] and not isinstance(result, list)


def main() -> None:
    notes = driver.install()
    report = {}
    with torch.no_grad(), pretending():  # in which every operation is taken apart
        for name, config in MODELS.items():
            for batch in BATCHES:
                form = ServedForm(replace(config), max_num_seqs=256)
                report[f"{name}, batch {batch}"] = count(form, batch, notes)
            report[f"{name}, guesses"] = count(form, VERIFIED, notes, is_verified=True)
        for name, config in WITH_STATES.items():
            report[f"{name}, batch 8"] = count(ServedForm(config), 8, notes)
    print(json.dumps(report))


def count(
    form: ServedForm, batch: int, notes: driver.Notes, *, is_verified: bool = False
) -> dict[str, Any]:
    """Of one decode step."""
    config = form.config
    model = make_model(form, META)
    num_states = 2 * form.max_num_seqs if config.state else 0
    cache = KVCache(config, 100, BLOCK_SIZE, torch.bfloat16, META, num_states + bool(num_states))
    verified = batch if is_verified else 0
    layout = StateLayout(form.max_num_seqs, CONTEXT // BLOCK_SIZE, 1, most_rows_verified=verified)
    state = DeviceState(layout, 99, config.vocab_size, META, num_states or None)
    graphs = DecodeGraphs(
        lambda rows: model.logits_as_computed(rows, cache),
        state,
        DeviceSampler(state),
        BLOCK_SIZE,
        config.vocab_size,
        rerun,
        model.look_up(),
        largest_verified=verified,
    )
    look_up = model.look_up()
    assert look_up is not None, "rows of its tables would be looked up one launch after the other"
    counter = Counter(
        (
            look_up.turns,
            *model.parameters(),
            *model.buffers(),
            *cache.keys,
            *cache.values,
            state.table,
        )
    )
    notes.on_launch = lambda name, arguments: counter.note(list(arguments))
    before = len(notes.launches)
    with counter:
        graphs._step(batch, replace(GREEDY_MODE, is_verified=is_verified))
    kernels = notes.launches[before:]
    layers = config.num_hidden_layers
    names = [*kernels, *counter.names]
    return {
        "launches": len(names),
        "of_a_layer": (len(names) - sum(names.count(n) % layers for n in set(names))) // layers,
        "torch": {name: counter.names.count(name) for name in dict.fromkeys(counter.names)},
        "kernels": {name: kernels.count(name) for name in dict.fromkeys(kernels)},
        "megabytes": counter.num_bytes / 1e6,
        "multiprocessors": MULTIPROCESSORS,
    }


if __name__ == "__main__":
    main()
