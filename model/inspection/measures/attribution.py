"""Which parts of the model a logit is the sum of: direct logit attribution.

The stream at a position is a sum: the token's embedding, perhaps its position's, what each head of
each layer adds, attention's biases, each MLP. The final norm, its divisor held at the actual value,
and the head are linear, so a token's logit, or the difference of two tokens', is the sum of what
each part gives it (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). All
products are float64's. What arithmetic does on the way is told as parts of its own: the stream's
roundings, and those of a head that rounds what it reads. A logit is taken before it is capped.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from thirdeye.model.inspection.heads import head_results, output_bias
from thirdeye.model.inspection.norms import divisor, held
from thirdeye.model.inspection.probe import LayerTrace
from thirdeye.model.transformer import Transformer


@dataclass(slots=True)
class Attribution:
    """Parts of logit(first token) - logit(second), or of one token's; they add up to `logit`."""

    heads: list[Tensor] = field(default_factory=list)  # of each layer, [num_heads]
    attention_bias: list[Tensor] = field(default_factory=list)  # of each layer, and so are the two
    attention_rest: list[Tensor] = field(default_factory=list)  # attn_out less heads and bias
    mlp: list[Tensor] = field(default_factory=list)
    embed: Tensor = field(default_factory=lambda: torch.zeros(()))
    positions: Tensor = field(default_factory=lambda: torch.zeros(()))
    final_bias: Tensor = field(default_factory=lambda: torch.zeros(()))  # of norm and head
    stream_rounding: Tensor = field(default_factory=lambda: torch.zeros(()))
    head_rounding: Tensor = field(default_factory=lambda: torch.zeros(()))
    logit: Tensor = field(default_factory=lambda: torch.zeros(()))  # the model's own
    scale: Tensor = field(default_factory=lambda: torch.zeros(()))  # the final norm's divisor

    def arrays(self) -> dict[str, Tensor]:
        """Each by its name: [layers, num_heads], [layers] or a number."""
        return {
            name: torch.stack(value) if isinstance(value, list) else value
            for name, value in ((name, getattr(self, name)) for name in self.__slots__)
        }


class Attributing:
    """Takes one trace after the other, of all layers in order, and then tells the parts."""

    def __init__(self, model: Transformer, input_ids: Tensor, position: int, max_rows: int) -> None:
        self._model, self._max_rows = model, max_rows
        self._position, self._ids = position, input_ids
        self._added: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(self, trace: LayerTrace) -> Generator[None, None, None]:
        """What the layer adds at the position: [num_heads, d], [d], [d], [d] in float64."""
        block, at = trace.block, slice(self._position, self._position + 1)
        attention, z = block.self_attention, trace.z[at]
        num_heads = self._model.config.num_heads
        parts = []
        for first in range(0, num_heads, self._max_rows):
            heads = range(first, min(first + self._max_rows, num_heads))
            parts.append(head_results(attention, z, heads, trace.ranks.rank)[:, 0].double())
            yield
        results, bias = torch.cat(parts), output_bias(attention, z)[0]
        attended = attention.output(z.flatten(1))[0]
        behind = held(block.attention_post_norm, attended)
        by_head, by_bias = behind(results), behind(bias) + behind.constant
        rest = trace.attn_out[self._position].double() - by_head.sum(0) - by_bias
        self._added.append((by_head, by_bias, rest, trace.mlp_out[self._position].double()))
        yield

    def finish(self, resid: Tensor, tokens: list[int]) -> Generator[None, None, Attribution]:
        """resid [n, hidden_size], behind the last block. `tokens`: one, or two for their
        difference."""
        model, x = self._model, resid[self._position]
        unembedding, head_bias = yield from self._direction(x, tokens)
        norm = held(model.final_norm, x)
        direction = norm.back(unembedding)
        found = Attribution()
        for heads, bias, rest, mlp in self._added:
            found.heads.append(heads @ direction)
            found.attention_bias.append(bias @ direction)
            found.attention_rest.append(rest @ direction)
            found.mlp.append(mlp @ direction)
        here = self._ids[self._position : self._position + 1]
        at = torch.tensor([self._position], device=here.device)
        text = model.embed_text(here)
        embedded = model.embed_positions(text, at)
        found.embed = text[0].double() @ direction
        found.positions = (embedded - text)[0].double() @ direction
        found.final_bias = (norm.constant.expand_as(unembedding) @ unembedding) + head_bias
        streamed = sum(
            (heads.sum(0) + bias + rest + mlp for heads, bias, rest, mlp in self._added),
            embedded[0].double(),
        )
        found.stream_rounding = (x.double() - streamed) @ direction
        found.logit = difference(self._scored(x[None]), tokens)
        exact = x.double() @ direction + found.final_bias
        found.head_rounding = found.logit - exact
        found.scale = divisor(model.final_norm, x.double()[None])[0]
        return found

    def _scored(self, x: Tensor) -> Tensor:
        return self._model.score(self._model.final_norm(x))[0].double() * self._logit_scale

    @property
    def _logit_scale(self) -> float:
        return self._model.config.logit_scale

    def _direction(
        self, x: Tensor, tokens: list[int]
    ) -> Generator[None, None, tuple[Tensor, Tensor]]:
        """The head's rows of the tokens as it multiplies by them, whatever it keeps them in: what
        it makes of each channel alone. [hidden_size], and its bias."""
        size, score = len(x), self._model.score
        bias = difference(score(x.new_zeros(1, size))[0].double(), tokens)
        parts = []
        for start in range(0, size, self._max_rows):
            stop = min(start + self._max_rows, size)
            channels = x.new_zeros(stop - start, size)
            channels[:, start:stop].fill_diagonal_(1)
            parts.append(difference(score(channels).double(), tokens) - bias)
            yield
        scale = self._logit_scale
        return torch.cat(parts) * scale, bias * scale


def difference(logits: Tensor, tokens: list[int]) -> Tensor:
    """logits [..., vocab_size] -> [...] of the first token, less the second's."""
    first, *second = (logits[..., token] for token in tokens)
    return first - second[0] if second else first
