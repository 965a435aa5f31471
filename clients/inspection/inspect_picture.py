"""An inspection as a picture: each head's part of the logit, and what switching it off does."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thirdeye.clients.inspection.arrays import LabelledArray, arrays_of
from thirdeye.clients.types import Inspection


def draw(read: Inspection, swept: Inspection | None, file: Path) -> None:
    """Raises OSError where it cannot be written."""
    arrays = arrays_of(read.raw)
    pictures = [("each head's part of the logit", arrays["attribution.heads"])]
    if swept is not None:
        found = arrays_of(swept.raw)["variants.kl"]
        pictures.append((f"KL without one of the {found.dims[-1]}s", found))
    figure = Figure(figsize=(5.5 * len(pictures), 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("".join(read.tokens).replace("$", r"\$"), fontsize=10)
    for axes, (title, array) in zip(
        figure.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True
    ):
        values = array.values if array.values.ndim == 2 else array.values[:, None]
        limit = float(np.abs(values).max()) or 1.0
        is_signed = bool((values < 0).any())
        image = axes.imshow(
            values, aspect="auto", cmap="RdBu_r" if is_signed else "viridis",
            vmin=-limit if is_signed else 0.0, vmax=limit,
        )  # fmt: skip
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(_label(array, 1))
        axes.set_ylabel(_label(array, 0))
        figure.colorbar(image, ax=axes)
    figure.savefig(file, format="png", dpi=120)


def _label(array: LabelledArray, dim: int) -> str:
    return array.dims[dim] if dim < len(array.dims) else ""
