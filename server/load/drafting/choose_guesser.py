"""Which model guesses, if one was asked for; prompt lookup needs none."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from msgspec import structs

from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.load.drafting.guesser import Guesser, LoadModel
from thirdeye.server.load.drafting.load_draft import find_draft, load_draft
from thirdeye.server.load.drafting.load_head import find_head, load_head
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.weights.checkpoint import Checkpoint

OF_A_HEAD = "the model's own head reads hidden states, which a step's graph does not keep"
OF_STATES = "a layer's state cannot be taken back behind wrong guesses in a step's graph"


@dataclass(frozen=True, slots=True)
class ChosenGuesser:
    """Found to fit, and not loaded. `load` is called with the served model, where that went, the
    dtype of keys and values, and how models are loaded."""

    what: str
    why_not_ahead: str  # of steps that are launched before the last one is read; empty: it may
    load: Callable[[Transformer, Placement, torch.dtype, LoadModel], Guesser]

    def without_steps_ahead(self, recipe: EngineRecipe) -> EngineRecipe:
        """The same engine, step by step. Raises ValueError where another was asked for."""
        if recipe.kernels.cuda_graphs == "on":
            raise ValueError(
                f"{self.what} does not go with '--cuda-graphs' on: {self.why_not_ahead}. Leave one "
                "out, or add '--cuda-graphs off'."
            )
        return structs.replace(recipe, kernels=replace(recipe.kernels, cuda_graphs="off"))


def choose_guesser(recipe: EngineRecipe, served: Checkpoint) -> ChosenGuesser | None:
    """Before any weight is read. Raises ValueError or ModelError with the way out."""
    asked = recipe.speculation
    if asked.draft is None and asked.speculation != "mtp":
        return None
    what = "'--speculation' mtp" if asked.draft is None else f"'--draft' {asked.draft}"
    if asked.draft is not None and asked.speculation not in ("auto", "ngram"):
        raise ValueError(
            f"{what} and '--speculation' {asked.speculation} do not go together: leave one out."
        )
    if recipe.placement.tensor_parallel > 1:
        raise ValueError(f"{what} does not go with '--tensor-parallel': leave one out.")
    if asked.draft is None:
        return ChosenGuesser(what, OF_A_HEAD, partial(load_head, find_head(served)))
    draft = find_draft(asked.draft, served)
    why_not = "" if served.config.state is None else OF_STATES
    return ChosenGuesser(what, why_not, partial(load_draft, draft, asked.draft_quantize))
