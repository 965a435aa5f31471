"""What layers are told of a token besides the stream (Gemma 4's small models); and the stream of a
head that guesses (MTP), which begins with more than a token.

Of each token and each layer there is a small vector: from a table, and from the token's embedding.
Behind its MLP a layer lets through of it what the stream says, and adds what that makes.
"""

import torch
from torch import Tensor, nn

from thirdeye.model.declare.block import LayerInputPart
from thirdeye.model.declare.transformer import JoinPart, LayerInputsPart
from thirdeye.model.native.activate import ActivateKernel
from thirdeye.model.parallel.parallel_linear import make_linear
from thirdeye.model.parts.activations import gated_function
from thirdeye.model.parts.choose_parts import make_embedding, make_norm
from thirdeye.model.placement import Placement


class LayerInputs(nn.Module):
    """Those of all layers, once a step."""

    def __init__(self, part: LayerInputsPart, where: Placement) -> None:
        super().__init__()
        self.table = make_embedding(part.table, where)
        self.projection = make_linear(part.projection, where)
        self.norm = make_norm(part.norm, where)
        self._size = part.norm.size
        self._scale = part.projection.in_features**-0.5

    def forward(self, ids: Tensor, x: Tensor) -> Tensor:
        """ids [T] and their vectors x [T, hidden_size] -> [num_layers, T, size]."""
        looked_up = self.table(ids).view(len(ids), -1, self._size)
        projected = (self.projection(x) * self._scale).view(-1, self._size)
        both = self.norm(projected).view_as(looked_up) + looked_up
        return (both * 2**-0.5).transpose(0, 1).contiguous()


class LayerInput(nn.Module):
    """What one layer makes of its own."""

    def __init__(self, part: LayerInputPart, where: Placement) -> None:
        super().__init__()
        self.number = part.number
        self.gate = make_linear(part.gate, where)
        self.project = make_linear(part.project, where)
        self.norm = make_norm(part.norm, where)
        self._through = gated_function(part.activation, where)

    def forward(self, x: Tensor, inputs: Tensor) -> Tensor:
        """x [T, hidden_size], inputs [num_layers, T, size] -> what is added to x."""
        let_through = self._through(self.gate(x), inputs[self.number])
        added: Tensor = self.norm(self.project(let_through))
        return added


class NativeLayerInput(LayerInput):
    """`LayerInput` with the gate's activation and the product in one kernel; a CPU's alone."""

    def __init__(self, part: LayerInputPart, where: Placement) -> None:
        super().__init__(part, where)
        assert where.native is not None
        self._through = ActivateKernel(where.native, part.activation, is_gated=False)


def make_layer_input(part: LayerInputPart, where: Placement) -> LayerInput:
    return NativeLayerInput(part, where) if where.native else LayerInput(part, where)


class JoinHidden(nn.Module):
    """How the stream of a head that guesses begins: with a token, and with what another model made
    of the text before it."""

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
