"""An MLP for all tokens and experts beside it, each with norms of its own (Gemma 4)."""

from typing import Any

from torch import Tensor, nn

from thirdeye.model.parts.experts import Experts
from thirdeye.model.parts.layers import MLP, AddNorm, GatedMLP


class MixedMLP(nn.Module):
    """It reads the stream as it is, by three norms: the MLP's, the router's, the experts'."""

    def __init__(
        self,
        *,
        norm: AddNorm,
        mlp: MLP | GatedMLP,
        post_norm: AddNorm,
        router_norm: AddNorm,
        experts_norm: AddNorm,
        experts: Experts,
        experts_post_norm: AddNorm,
    ) -> None:
        super().__init__()
        self.norm, self.mlp, self.post_norm = norm, mlp, post_norm
        self.router_norm, self.experts_norm = router_norm, experts_norm
        self.experts, self.experts_post_norm = experts, experts_post_norm

    def forward(self, x: Tensor) -> Tensor:
        """x [T, hidden_size] -> [T, hidden_size]."""
        return self.answer(x, self.route(x))

    def route(self, x: Tensor) -> Any:
        """Whom each token asks, as `Experts.router` says it."""
        return self.experts.router(self.router_norm(x))

    def answer(self, x: Tensor, routing: Any) -> Tensor:
        """The same of the experts that each token asks."""
        dense: Tensor = self.post_norm(self.mlp(self.norm(x)))
        said: Tensor = self.experts_post_norm(self.experts.answer(self.experts_norm(x), routing))
        return dense + said
