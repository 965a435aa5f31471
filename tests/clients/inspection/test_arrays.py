"""An inspection's numbers as arrays: by name, with dimensions and the numbers along them."""

import base64
from typing import Any

import numpy as np
import pytest

from thirdeye.clients.errors import ThirdeyeError
from thirdeye.clients.inspection.arrays import arrays_of
from thirdeye.clients.types import Inspection

RAW: dict[str, Any] = {
    "dims": {
        "scores": ["layer", "head", "query_pos", "key_pos"],
        "norms": ["layer", "pos"],
        "logit_lens": ["layer", "lens_position", "rank"],
        "neurons": ["layer", "pos", "rank"],
    },
    "layer_numbers": [3, 7], "heads": [5], "kv_heads": [1], "positions": [0, 1],
    "lens_positions": [1],
    "layers": [
        {
            "layer": layer,
            "scores": [[[float(layer), None], [1.0, 2.0]]],
            "norms": {"resid_pre": [1.0, 2.0], "attn_out": [3.0, 4.0]},
            "logit_lens": [[{"id": 9, "token": "a", "logprob": -0.5}]],
            "neurons": [[{"index": 4, "value": 1.5}], [{"index": 6, "value": -2.0}]],
        }
        for layer in (3, 7)
    ],
    "surprisal": {"nats": [2.5], "rank": [3], "entropy": [4.0]},
    "attribution": {"tokens": [{"id": 1}], "logit": 1.5, "scale": None, "mlp": [0.5, 1.0]},
    "head_scores": {"token_ids": [1], "kinds": {"induction": [[0.1, 0.2]]}},
    "variants": [
        {"layer": layer, "head": head, "kl": layer + head / 10, "is_above_noise": head > 0}
        for layer in (3, 7) for head in (1, 0)
    ],
}  # fmt: skip


def test_each_part_has_its_name_dimensions_and_numbers() -> None:
    arrays = Inspection.read(RAW).arrays
    scores = arrays["scores"]
    assert (scores.dims, scores.values.shape) == (
        ("layer", "head", "query_pos", "key_pos"),
        (2, 1, 2, 2),
    )
    assert scores.coords == {"layer": (3, 7), "head": (5,), "query_pos": (0, 1)}
    assert scores.at(layer=7, head=5)[0, 0] == 7.0
    assert np.isnan(scores.at(layer=7, head=5, query_pos=0)[1])
    assert arrays["norms.attn_out"].at(layer=3).tolist() == [3.0, 4.0]
    assert arrays["logit_lens.id"].values.tolist() == [[[9.0]], [[9.0]]]
    assert arrays["neurons.value"].at(layer=7, pos=1).tolist() == [-2.0]
    assert arrays["surprisal.rank"].values.tolist() == [3.0]
    assert arrays["attribution.logit"].values == 1.5
    assert arrays["attribution.mlp"].dims == ("layer",)
    assert "attribution.scale" not in arrays
    assert arrays["head_scores.induction"].dims == ("layer", "head")


def test_a_sweep_is_a_grid_where_it_is_one() -> None:
    kl = arrays_of(RAW)["variants.kl"]
    assert (kl.dims, kl.coords) == (("layer", "head"), {"layer": (3, 7), "head": (0, 1)})
    np.testing.assert_allclose(kl.values, [[3.0, 3.1], [7.0, 7.1]], rtol=1e-6)
    cut = arrays_of(RAW | {"variants": RAW["variants"][1:]})["variants.kl"]
    assert (cut.dims, cut.values.shape) == (("variant",), (3,))


def test_packed_numbers_are_the_same() -> None:
    values = np.arange(8, dtype="<f4").reshape(1, 2, 4)
    packed = {
        "shape": [1, 2, 4],
        "dtype": "float32",
        "data": base64.b64encode(values.tobytes()).decode(),
    }
    raw = {"dims": {"z": ["layer", "head", "pos", "d_head"]}, "layers": [{"z": packed}]}
    np.testing.assert_array_equal(arrays_of(raw)["z"].values[0], values)


def test_a_number_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="scores has no layer 4"):
        arrays_of(RAW)["scores"].at(layer=4)
    with pytest.raises(ThirdeyeError, match="cannot be read as arrays"):
        arrays_of({"dims": {"z": ["layer"]}, "layers": [{"z": {"data": 7}}]})


def test_a_part_that_some_layers_lack_keeps_their_numbers() -> None:
    """Routing, in a model whose first layer has one MLP for all."""
    asked = {"layer": 1, "routing": [[{"index": 3, "weight": 0.5}]]}
    raw = {
        "dims": {"routing": ["layer", "pos", "rank"]},
        "layer_numbers": [0, 1],
        "positions": [4],
        "layers": [{"layer": 0}, asked],
    }
    weights = arrays_of(raw)["routing.weight"]
    assert weights.coords["layer"] == (1,)
    assert weights.at(layer=1, pos=4).tolist() == [0.5]


def test_layers_that_differ() -> None:
    """Heads of one layer alone are told of that; of two sizes, layer by layer."""
    raw: dict[str, Any] = {
        "dims": {"pattern": ["layer", "head", "query_pos", "key_pos"],
                 "k": ["layer", "kv_head", "pos", "d_head"]},
        "layer_numbers": [0, 1, 2], "heads": [5], "kv_heads": [0], "positions": [0],
        "layers": [
            {"layer": 0, "pattern": [], "k": []},
            {"layer": 1, "pattern": [[[1.0]]], "k": [[[1.0, 2.0]]], "kv_heads": [3]},
            {"layer": 2, "pattern": [[[0.5]]], "k": [[[3.0]]], "kv_heads": [1]},
        ],
    }  # fmt: skip
    arrays = arrays_of(raw)
    assert arrays["pattern"].coords["layer"] == (1, 2)
    assert arrays["pattern"].at(layer=2, head=5).tolist() == [[0.5]]
    assert arrays["k.1"].at(kv_head=3).tolist() == [[1.0, 2.0]]
    assert arrays["k.2"].dims == ("kv_head", "pos", "d_head")
    packed = {"shape": [0, 1, 1], "dtype": "float32", "data": ""}
    raw["layers"][0]["pattern"] = packed
    assert arrays_of(raw)["pattern"].coords["layer"] == (1, 2)
