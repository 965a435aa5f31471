"""`--deterministic` on a device: the same bits whatever else a step computes.

Each check is a function of the device that raises AssertionError. The whole model's runs on a CPU
too, where the promise needs no flag.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.model.steps import Row, make_batch, to_device
from tests.model.tiny import LLAMA, change
from thirdeye.model.attention.choose_attention import choose_attention
from thirdeye.model.state.kv_cache import KVCache
from thirdeye.model.transformer import Transformer
from thirdeye.server.engine.sampling.fused_sampler import choose_in_kernels
from thirdeye.server.engine.sampling.sampler import GREEDY, DrawParams, sample

WIDE = change(LLAMA, hidden_size=128, intermediate_size=1100, head_dim=32)
PARAMS = (
    GREEDY,
    DrawParams(0.7, 1.0, -math.inf, 0, 0),
    DrawParams(0.6, 0.9, -math.inf, 0, 0),
    DrawParams(1.0, 0.9, -math.inf, 40, 0),
    DrawParams(1.2, 1.0, math.log(0.05), 0, 0),
)
ROWS = (1, 2, 3, 16, 17, 64, 65, 128, 256)


def products(device: torch.device) -> None:
    """Each row's bits for 1 to 300 rows, with lanes and without; and the right product."""
    from thirdeye.model.kernels.products.fixed_matmul import FixedMatmul

    for dtype in (torch.bfloat16, torch.float32):
        for size, out in ((256, 130), (4096, 256), (1600, 4800), (14336, 512)):
            x = torch.randn(300, size, device=device, dtype=dtype)
            weight = torch.randn(out, size, device=device, dtype=dtype) / size**0.5
            one_lane, lanes = FixedMatmul(0), FixedMatmul(10**6)
            expected = one_lane(x, weight, None)
            torch.testing.assert_close(expected, F.linear(x, weight), atol=5e-2, rtol=5e-2)
            for rows in ROWS:
                for multiply in (one_lane, lanes):
                    assert torch.equal(multiply(x[:rows], weight, None), expected[:rows])
                    assert torch.equal(multiply(x[-rows:], weight, None), expected[-rows:])


def draws(device: torch.device) -> None:
    """What rows of all kinds draw, for one row and many: the twin's tokens, but where a sum's last
    bit decides."""
    logits = torch.randn(256, 50_000, device=device) * 3
    params = [PARAMS[i % len(PARAMS)]._replace(seed=i) for i in range(len(logits))]
    places = list(range(len(logits)))
    chosen = choose_in_kernels(logits, params, places)
    assert (chosen.cpu() == sample(logits.cpu(), params, places)).float().mean() > 0.97
    for rows in ROWS:
        alone = choose_in_kernels(logits[:rows], params[:rows], places[:rows])
        assert torch.equal(alone, chosen[:rows])


def whole_model(device: torch.device) -> None:
    """Logits and logprobs of a sequence alone, in company, in chunks, decoded token by token."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    backend = choose_attention("auto", device, is_deterministic=True)
    model = Transformer(WIDE, backend, dtype=dtype, device=device, is_deterministic=True)
    for name, parameter in model.named_parameters():
        parameter.normal_(1.0 if name.endswith("norm.weight") else 0.0, 0.2)
    model.finish()
    whole = _logits(model, [60], 0, dtype, device)
    for cuts, company in (([60], 40), ([7, 33, 58, 59, 60], 0), ([31, 32, 33, 60], 7)):
        assert torch.equal(_logits(model, cuts, company, dtype, device), whole)


def _logits(
    model: Transformer, cuts: list[int], company: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Log-probabilities at every position of one sequence, computed up to each cut in turn."""
    cache = KVCache(WIDE, 4 + company, 16, dtype, device)
    tokens, logits, past = [(7 * i) % 97 for i in range(60)], [], 0
    for cut in cuts:
        own = Row(tokens[past:cut], past, [2, 0, 3, 1])
        others = [Row(range(5 + i, 9 + i), 0, [4 + i]) for i in range(company)]
        step = make_batch([*others, own], 16, "all")
        batch = to_device(step, device)
        logits.append(model(batch, cache)[-len(own.token_ids) :].log_softmax(-1))
        past = cut
    return torch.cat(logits)


CHECKS = {"products": products, "draws": draws, "whole model": whole_model}
