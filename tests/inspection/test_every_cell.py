"""Every kind of intervention at every place that takes it, as a request declares them, against
numbers made plainly from what transformers' hooks saw and put back by hooks."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures.cases import VOCAB_SIZE
from tests.inspection.conftest import Pair
from tests.inspection.edited import STREAM, hooks_of, keys_of, width_of
from tests.inspection.test_edits import logits_of
from tests.inspection.test_readings import TOKENS, finish
from tests.oracles.hooked_model import Seen
from thirdeye.model.inspection.continuation import continued
from thirdeye.model.inspection.edits import INDEXED, POINTS, Edit, Put
from thirdeye.server.engine.inspection.references import References
from thirdeye.server.engine.interface.interventions import PATTERNS, EditSpec

OTHER = torch.randint(VOCAB_SIZE, (21,), generator=torch.Generator().manual_seed(9)).tolist()
PLACES = (9, 2)  # that are edited
KINDS: dict[str, dict[str, Any]] = {
    "zero": {"change": "zero"},
    "scale": {"change": "scale", "factor": -0.5},
    "mean": {"change": "mean", "texts": [0, 1]},
    "source": {"change": "source", "texts": [1], "from_positions": [*PLACES]},
    "source elsewhere": {"change": "source", "texts": [1], "from_positions": [5, 12]},
    "direction": {"change": "add", "texts": [1, 0], "from_positions": [12, 3], "factor": 2.0},
    "direction, matched": {
        "change": "add", "texts": [1, 0], "from_positions": [12, 3], "matches_norm": True,
    },
    "vector": {"change": "add", "factor": 3.0},
    "tokens": {"change": "add", "tokens": [5, 11]},
    "rows": {"change": "add", "texts": [1, 0], "factor": 2.0},
    **{name: {"change": name} for name in PATTERNS},
}  # fmt: skip


def kinds_of(at: str) -> list[str]:
    only = {"tokens": at in STREAM, "rows": at == "pattern"}
    only |= dict.fromkeys(PATTERNS, at == "pattern")
    return [kind for kind in KINDS if only.get(kind, True)]


def numbers(seen: Seen, at: str, layer: int, index: int, keys: str) -> Tensor:
    """[n, width] of one text, as `POINTS` say; `keys`: where a model's unturned ones are seen."""
    found = seen.layers[layer]
    if at in STREAM:
        return found[at]
    if at == "neuron":
        return found["neurons"][:, index : index + 1]
    if at == "kv_head":
        key = found[keys][index] if keys == "rot_k" else found[keys][:, index]
        return torch.cat((key, found["values"][index]), dim=-1)
    return found["z" if at == "head" else at][index]


def edited(spec: EditSpec, own: Tensor, other: Tensor, rows: Tensor, pattern: Tensor) -> Tensor:
    """All the numbers [n, width] of the text, of which the other has `other`; `rows`: two tokens'
    embeddings; `pattern` [n, n]: what a pattern is to become."""
    new, texts = own.clone(), [own, other]
    for place, position in enumerate(spec.positions):
        elsewhere = spec.from_positions[place] if spec.from_positions else position
        if spec.change == "zero":
            new[position] = 0
        elif spec.change == "scale":
            new[position] = own[position] * spec.factor
        elif spec.change == "mean" and spec.at == "pattern":
            new[position] = (own[position] + other[position]) / 2
        elif spec.change == "mean":
            new[position] = (own.sum(0) + other.sum(0)) / (len(own) + len(other))
        elif spec.change == "source":
            new[position] = other[elsewhere]
        elif spec.change in PATTERNS:
            new[position] = pattern[position]
        else:
            direction = torch.tensor(spec.vector)
            if spec.tokens:
                direction = rows[0] - rows[1]
            elif spec.texts:
                first, second = spec.from_positions or (position, position)
                direction = texts[spec.texts[0]][first] - texts[spec.texts[1]][second]
            if spec.matches_norm:
                direction = direction * (own[position].norm() / direction.norm())
            new[position] = own[position] + spec.factor * direction
    if spec.at == "pattern":  # of keys that lie ahead nobody has heard yet
        new = new * (torch.arange(len(new))[None] <= torch.arange(len(new))[:, None])
    return new


def pattern_of(kind: str, size: int) -> Tensor:
    found = torch.zeros(size, size)
    for query in range(size):
        if kind == "uniform":
            found[query, : query + 1] = 1 / (query + 1)
        else:
            found[query, max(0, query - (kind == "previous"))] = 1
    return found


def references_of(pair: Pair, specs: Sequence[EditSpec]) -> References:
    found = References(pair.ours, [TOKENS, OTHER], specs, 64, None)
    finish(found.run(0))
    finish(found.run_others())
    return found


@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_each_kind_at_each_place(pair_of: Callable[[str], Pair], name: str, at: str) -> None:
    pair = pair_of(name)
    config, is_gpt2 = pair.ours.config, name == "gpt2"
    layer, index = (0, 0) if at == "embed" else (1, int(at in INDEXED))
    texts = [pair.theirs.run(ids) for ids in (TOKENS, OTHER)]
    keys = "rot_k" if is_gpt2 else keys_of(config)
    own, other = (numbers(seen, at, layer, index, keys) for seen in texts)
    rows = pair.theirs.embedding.weight[[5, 11]]  # type: ignore[index]  # a Tensor
    generator = torch.Generator().manual_seed(3)
    vector = torch.randn(width_of(at, config, len(TOKENS)), generator=generator).tolist()
    specs = {
        kind: EditSpec(
            at=at, layer=layer, index=index, positions=[*PLACES], from_layer=layer,
            vector=vector if kind == "vector" else [], **KINDS[kind],
        )
        for kind in kinds_of(at)
    }  # fmt: skip
    references = references_of(pair, [*specs.values()])
    for kind, spec in specs.items():
        new = edited(spec, own, other, rows, pattern_of(kind, len(TOKENS)))
        hooks = hooks_of([Edit(at, Put(new), layer, index)], config, is_gpt2=is_gpt2)
        theirs = pair.theirs.run(TOKENS, hooks).logits
        edit = references.edit(spec, len(TOKENS))
        ours = logits_of(pair.ours, [edit], max_rows=13)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4, msg=kind)
        assert (theirs - texts[0].logits).abs().max() > 1e-4, kind  # it does something


def test_a_direction_over_keys_goes_on_with_the_text(pair_of: Callable[[str], Pair]) -> None:
    """New tokens' keys get nothing of it; their rows do, where it is of all positions."""
    pair = pair_of("llama")
    vector = torch.randn(len(TOKENS), generator=torch.Generator().manual_seed(3)) * 4
    positions: Sequence[list[int]] = ([], [2, 9])
    for chosen in positions:
        spec = EditSpec(
            at="pattern", change="add", index=1, positions=chosen, vector=vector.tolist()
        )
        references, ids = references_of(pair, [spec]), [*TOKENS]
        for _ in range(4):
            edit = references.edit(spec, len(ids))
            ids.append(int(logits_of(pair.ours, [edit], ids, 64)[-1].argmax()))
        edit = references.edit(spec, len(TOKENS) + 4)
        assert finish(continued(pair.ours, torch.tensor(TOKENS), 4, 8, None, [edit])) == ids[21:]
