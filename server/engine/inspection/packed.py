"""Tensors as the plain data that crosses the engine's border."""

from torch import Tensor

from thirdeye.server.engine.interface.trace import Array, Guesses

Arrays = dict[str, Array]


def packed(values: Tensor) -> Array:
    values = values.float().cpu().contiguous()
    return Array(list(values.shape), values.numpy().astype("<f4", copy=False).tobytes())


def guesses_of(logprobs: Tensor, num_top: int) -> list[Guesses]:
    """logprobs [m, vocab_size] -> the likeliest tokens of each row."""
    values, ids = logprobs.topk(num_top)  # [m, num_top]
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return [list(zip(*pair, strict=True)) for pair in pairs]
