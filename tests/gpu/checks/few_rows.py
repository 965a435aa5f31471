"""The product of few rows on a device, and kernels that are launched before the last one ends.

Each check is a function of the device that raises AssertionError.
"""

from dataclasses import replace
from unittest.mock import patch

import torch
from torch import Tensor

from tests.model.linear.few_rows_twins import CASES, FORMATS, Case, check_few_rows, operands
from tests.model.steps import Row, make_batch, to_device
from tests.model.tiny import LLAMA, change
from thirdeye.model.attention.triton import TritonAttention
from thirdeye.model.config import Activation
from thirdeye.model.few_rows.around import FEW_ROWS
from thirdeye.model.kernels import dependent_launch
from thirdeye.model.kernels.products.few_rows_matmul import FewRowsMatmul
from thirdeye.model.placement import Placement
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer

WIDE = change(LLAMA, hidden_size=512, intermediate_size=1024, head_dim=64)
BF16 = torch.bfloat16


def twins(device: torch.device) -> None:
    """All that may lie around it, in every format, at sizes with many steps and with few."""
    for case in CASES:
        for dtype in (BF16, torch.float32):
            check_few_rows(case, Placement(dtype, device), 132)
    for kind in FORMATS:
        for rows in (1, FEW_ROWS):
            gate = Case(kind, rows, 4096, 1024, has_norm=True, activation=Activation.SILU)
            check_few_rows(gate, Placement(BF16, device), 132)
            check_few_rows(replace(gate, has_delta=True), Placement(BF16, device), 132)
            last = Case(kind, rows, 14336, 512, has_residual=True)
            check_few_rows(last, Placement(BF16, device), 132)


def bits(device: torch.device) -> None:
    """A row's are its own, for any number of rows."""
    where = Placement(BF16, device)
    for kind in FORMATS:
        given = operands(Case(kind, FEW_ROWS, 4096, 512, has_norm=True), where)
        multiply = FewRowsMatmul(132)
        whole, _ = multiply(given.x, given.weight, None, given.around)
        for rows in (slice(0, 1), slice(7, 8), slice(3, 6)):
            own, _ = multiply(given.x[rows], given.weight, None, given.around)
            assert torch.equal(own, whole[rows])


def early_launches(device: torch.device) -> None:
    """They change no bit: many steps one behind the other, with and without."""
    with patch.object(dependent_launch, "has_dependent_launch", lambda device: False):
        expected = decoded(device)
    for _ in range(3):
        assert torch.equal(decoded(device), expected)


def decoded(device: torch.device) -> Tensor:
    """Logits of 40 steps of single tokens."""
    model = Transformer(WIDE, TritonAttention(num_multiprocessors=132), dtype=BF16, device=device)
    draw = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=draw) * 0.1
        model.load(name, None, noise + 1 if name.endswith("norm.weight") else noise)
    model.finish()
    cache = KVCache(WIDE, 24, 16, BF16, device)
    logits = []
    for position in range(40):
        rows = [Row([7 * i + position], position, [3 * i, 3 * i + 1, 3 * i + 2]) for i in range(5)]
        logits.append(model(to_device(make_batch(rows, 16, "all"), device), cache))
    return torch.stack(logits)


CHECKS = {"twins": twins, "bits": bits, "early launches": early_launches}
