"""What adapters add, in triton's interpreter, against the plain part; then in a model."""

import pytest
import torch

from tests.model.lora.adapters import merged_model
from tests.model.lora.addends_twin import check_addends
from tests.model.lora.test_adapted_model import both, logits, prompts, step
from tests.model.tiny import CPU, LLAMA, change, random_model
from thirdeye.model.placement import Placement

pytest.importorskip("triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(5, 47), (32, 48), (300, 301)])
def test_as_the_plain_part(shape: tuple[int, int], dtype: torch.dtype) -> None:
    check_addends(shape, Placement(dtype, CPU))


def test_a_model_of_fused_parts() -> None:
    """Two adapters and the base in one step, as merged weights say."""
    config = change(LLAMA, num_hidden_layers=1)
    model = random_model(config, is_fused=True, max_adapters=3)
    assert model.adapters is not None
    for number, factors in zip((7, 9), both(config), strict=True):
        model.adapters.load(number, factors)
    tokens = prompts(3)
    mixed = logits(model, step(tokens, {0: model.adapters.slots[7], 1: model.adapters.slots[9]}))
    sizes = [len(ids) for ids in tokens.values()]
    small, large = (merged_model(config, factors) for factors in both(config))
    for i, twin in enumerate((small, large, random_model(config))):
        expected = logits(twin, step(tokens, {})).split(sizes)[i]
        torch.testing.assert_close(mixed.split(sizes)[i], expected, atol=2e-4, rtol=1e-4)
