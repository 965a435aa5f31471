"""An inspection as a picture: each head's part of the logit, and what switching it off does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thirdeye.clients.inspection.arrays import LabelledArray, arrays_of
from thirdeye.clients.types import Inspection

SIGNED = colormaps["RdBu_r"]
UNSIGNED = colormaps["viridis"].with_extremes(bad="0.8")


def draw(read: Inspection, swept: Inspection | None, sweep: str | None, file: Path) -> None:
    """`sweep`: what was switched off in `swept`. Raises OSError where it cannot be written."""
    arrays = arrays_of(read.raw)
    pictures = [("each head's part of the logit", arrays["attribution.heads"])]
    if swept is not None:
        pictures.append((sweep_title(swept, sweep or "parts"), above_noise(arrays_of(swept.raw))))
    figure = Figure(figsize=(5.5 * len(pictures), 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("".join(read.tokens).replace("$", r"\$"), fontsize=10)
    for axes, (title, array) in zip(
        figure.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True
    ):
        values = array.values if array.values.ndim == 2 else array.values[:, None]
        limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
        is_signed = bool((values < 0).any())
        image = axes.imshow(
            values, aspect="auto", cmap=SIGNED if is_signed else UNSIGNED,
            vmin=-limit if is_signed else 0.0, vmax=limit,
        )  # fmt: skip
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(_label(array, 1))
        axes.set_ylabel(_label(array, 0))
        if len(array.dims) == 1:
            axes.set_xticks([])
        figure.colorbar(image, ax=axes)
    figure.savefig(file, format="png", dpi=120)


def above_noise(arrays: dict[str, LabelledArray]) -> LabelledArray:
    """The variants' KL; NaN, which is drawn gray, for what is no more than rounding."""
    kl, is_above = arrays["variants.kl"], arrays["variants.is_above_noise"].values
    return replace(kl, values=np.where(is_above > 0, kl.values, np.float32(np.nan)))


def sweep_title(swept: Inspection, sweep: str) -> str:
    """What was left out one by one, and how large an effect rounding alone has."""
    named = {"mlps": "MLPs", "kv_heads": "key/value heads"}.get(sweep, sweep)
    return f"KL without one of the {named}; gray: noise, up to {swept.raw['noise']['kl_max']:.1e}"


def _label(array: LabelledArray, dim: int) -> str:
    return array.dims[dim] if dim < len(array.dims) else ""
