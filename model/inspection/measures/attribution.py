"""Which parts of the model a logit is the sum of: direct logit attribution.

The stream at a position is a sum: the token's embedding, perhaps its position's, what each head of
each layer adds, attention's biases, a state that a layer keeps, each MLP. The final norm, its
divisor held at the actual value, and the head are linear, so a token's logit, or the difference of
two tokens', is the sum of what each part gives it (Elhage et al. 2021, "A Mathematical Framework
for Transformer Circuits"). Where the stream itself is scaled (Gemma 4) or normed (OPT 350M) behind
a layer, what came before passes through that too, with a norm's divisor held the same way. All
products are float64's. What arithmetic does on the way is told as parts of its own: the stream's
roundings, and those of a head that rounds what it reads. A logit is taken before it is capped.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from thirdeye.model.inspection.heads import head_results, output_bias
from thirdeye.model.inspection.norms import HeldNorm, divisor, held
from thirdeye.model.inspection.probe import LayerTrace
from thirdeye.model.parts.blocks import ClosingBlock, PostNormBlock
from thirdeye.model.transformer import Transformer


@dataclass(slots=True)
class Attribution:
    """Parts of logit(first token) - logit(second), or of one token's; they add up to `logit`."""

    heads: list[Tensor] = field(default_factory=list)  # of each layer, [num_heads]; 0 without any
    attention_bias: list[Tensor] = field(default_factory=list)  # of each layer, as all below
    attention_rest: list[Tensor] = field(default_factory=list)  # attn_out less what it is made of
    state: list[Tensor] = field(default_factory=list)  # what a layer remembers of the text
    mlp: list[Tensor] = field(default_factory=list)
    layer_input: list[Tensor] = field(default_factory=list)  # what it is told besides
    stream_bias: list[Tensor] = field(default_factory=list)  # of norms of the stream itself
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


@dataclass(frozen=True, slots=True)
class Added:
    """What one layer adds to the stream at the position, in float64, and what it does to that."""

    heads: Tensor  # [num_heads, d]
    bias: Tensor  # [d], and so are those below
    rest: Tensor
    state: Tensor
    mlp: Tensor
    told: Tensor
    behind_attention: HeldNorm  # of the stream
    behind_mlp: HeldNorm

    @property
    def attention(self) -> Tensor:
        return self.heads.sum(0) + self.bias + self.rest + self.state

    def onward(self, x: Tensor) -> Tensor:
        """The stream x [d] before the layer -> behind it."""
        x = self.behind_attention(x + self.attention) + self.behind_attention.constant
        return self.behind_mlp(x + self.mlp + self.told) + self.behind_mlp.constant


class Attributing:
    """Takes one trace after the other, of all layers in order, and then tells the parts."""

    def __init__(self, model: Transformer, input_ids: Tensor, position: int, max_rows: int) -> None:
        self._model, self._max_rows = model, max_rows
        self._position, self._ids = position, input_ids
        self._added: list[Added] = []

    def add(self, trace: LayerTrace) -> Generator[None, None, None]:
        """What the layer adds at the position."""
        here = self._position
        heads, bias = yield from self._of_heads(trace)
        state, told = (
            bias.new_zeros(len(bias)) if found is None else found[here].double()
            for found in (trace.remembered, trace.told)
        )
        rest = trace.attn_out[here].double() - heads.sum(0) - bias - state
        mlp = trace.mlp_out[here].double()
        norms = _stream_norms(trace, here)
        self._added.append(Added(heads, bias, rest, state, mlp, told, *norms))
        yield

    def _of_heads(self, trace: LayerTrace) -> Generator[None, None, tuple[Tensor, Tensor]]:
        """What each head adds [num_heads, d], and the biases of attention [d]."""
        block, num_heads = trace.block, self._model.config.num_heads
        if not trace.num_heads:
            nothing = trace.resid_pre.new_zeros(num_heads + 1, trace.resid_pre.shape[1]).double()
            return nothing[1:], nothing[0]
        attention, z = block.self_attention, trace.gated([self._position])
        by_head = z.view(1, trace.num_heads, -1)
        parts = []
        for first in range(0, num_heads, self._max_rows):
            heads = range(first, min(first + self._max_rows, num_heads))
            parts.append(head_results(attention, by_head, heads, trace.ranks.rank)[:, 0].double())
            yield
        bias = output_bias(attention, by_head)[0]
        behind = held(block.attention_post_norm, attention.output(z)[0])
        return behind(torch.cat(parts)), behind(bias) + behind.constant

    def finish(self, resid: Tensor, tokens: list[int]) -> Generator[None, None, Attribution]:
        """resid [n, hidden_size], behind the last block. `tokens`: one, or two for their
        difference."""
        model, x = self._model, resid[self._position]
        unembedding, head_bias = yield from self._direction(x, tokens)
        norm = held(model.final_norm, x)
        at_end = norm.back(unembedding)
        found = Attribution()
        at_start = self._walk_back(at_end, found)
        here = self._ids[self._position : self._position + 1]
        at = torch.tensor([self._position], device=here.device)
        text = model.embed_text(here)
        embedded = model.embed_positions(text, at)
        found.embed = text[0].double() @ at_start
        found.positions = (embedded - text)[0].double() @ at_start
        found.final_bias = (norm.constant.expand_as(unembedding) @ unembedding) + head_bias
        streamed = embedded[0].double()
        for layer in self._added:
            streamed = layer.onward(streamed)
        found.stream_rounding = (x.double() - streamed) @ at_end
        found.logit = difference(self._scored(x[None]), tokens)
        exact = x.double() @ at_end + found.final_bias
        found.head_rounding = found.logit - exact
        found.scale = divisor(model.final_norm, x.double()[None])[0]
        return found

    def _walk_back(self, direction: Tensor, found: Attribution) -> Tensor:
        """From the direction [d] that counts behind the last layer to the one before the first,
        through what is done to the stream; what each layer gives is put into `found`."""
        parts = []
        for layer in reversed(self._added):
            inner = layer.behind_mlp.back(direction)
            first = layer.behind_attention.back(inner)
            biases = layer.behind_mlp.constant, layer.behind_attention.constant
            parts.append(
                {
                    "heads": layer.heads @ first,
                    "attention_bias": layer.bias @ first,
                    "attention_rest": layer.rest @ first,
                    "state": layer.state @ first,
                    "mlp": layer.mlp @ inner,
                    "layer_input": layer.told @ inner,
                    "stream_bias": (biases[0] * direction).sum() + (biases[1] * inner).sum(),
                }
            )
            direction = first
        for given in reversed(parts):
            for name, value in given.items():
                getattr(found, name).append(value)
        return direction

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


def _stream_norms(trace: LayerTrace, position: int) -> tuple[HeldNorm, HeldNorm]:
    """What is done to the stream itself behind attention, and behind the MLP."""
    block, nothing = trace.block, nn.Identity()
    mid = trace.resid_mid[position]
    if isinstance(block, PostNormBlock):
        behind = block.attention_norm(mid[None])[0] + trace.mlp_out[position]
        return held(block.attention_norm, mid), held(block.mlp_norm, behind)
    scale = block.layer_scale if isinstance(block, ClosingBlock) else nothing
    return held(nothing, mid), held(scale, mid)


def difference(logits: Tensor, tokens: list[int]) -> Tensor:
    """logits [..., vocab_size] -> [...] of the first token, less the second's."""
    first, *second = (logits[..., token] for token in tokens)
    return first - second[0] if second else first
