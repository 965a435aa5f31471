"""How the stream of a head that guesses begins: with a token, and with what another model made of
the text before it."""

import torch
from torch import Tensor, nn

from thirdeye.model.declare.transformer import JoinPart
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.choose_parts import make_norm
from thirdeye.model.placement import Placement


class Join(nn.Module):
    def __init__(self, part: JoinPart, where: Placement) -> None:
        super().__init__()
        self.embedding_norm = make_norm(part.embedding_norm, where)
        self.hidden_norm = make_norm(part.hidden_norm, where)
        self.projection = make_linear(part.projection, where)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Tokens' vectors and hidden states [T, hidden_size] -> the stream, as large."""
        both = torch.cat([self.embedding_norm(x), self.hidden_norm(hidden.to(x.dtype))], dim=-1)
        stream: Tensor = self.projection(both)  # [T, 2 * hidden_size] -> [T, hidden_size]
        return stream
