"""Which model guesses, if one was asked for; prompt lookup needs none."""

import torch

from thirdeye.model.placement import Placement
from thirdeye.model.transformer import Transformer
from thirdeye.server.load.drafting.guesser import Guesser, LoadModel
from thirdeye.server.load.drafting.load_draft import load_draft
from thirdeye.server.load.drafting.load_head import load_head
from thirdeye.server.load.engine_recipe import EngineRecipe
from thirdeye.weights.checkpoint import Checkpoint


def choose_guesser(
    recipe: EngineRecipe,
    served: Checkpoint,
    model: Transformer,
    where: Placement,
    kv_dtype: torch.dtype,
    load_model: LoadModel,
    *,
    is_ahead: bool,
) -> Guesser | None:
    """Loaded. Raises ValueError or ModelError with the way out."""
    asked = recipe.speculation
    if asked.draft is None and asked.speculation != "mtp":
        return None
    what = "'--speculation' mtp" if asked.draft is None else f"'--draft' {asked.draft}"
    if asked.draft is not None and asked.speculation != "ngram":
        raise ValueError(
            f"{what} and '--speculation' {asked.speculation} do not go together: leave one out."
        )
    if recipe.placement.tensor_parallel > 1:
        raise ValueError(f"{what} does not go with '--tensor-parallel': leave one out.")
    if is_ahead:
        raise ValueError(
            f"{what} needs to know a token before it guesses the next, and steps are launched "
            "ahead here: add '--cuda-graphs off'."
        )
    if asked.draft is None:
        return load_head(served, model, where, kv_dtype, load_model)
    return load_draft(recipe, served, asked.draft, where, kv_dtype, load_model)
