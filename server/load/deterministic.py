"""What `--deterministic` promises, and so must refuse: the bits of an answer do not depend on what
else the engine computes.

On a CPU that is so without the flag; there it only refuses what would break the promise. On a GPU
it also chooses kernels that cut every sum alike, whatever the number of rows. docs/numerics.md
tells the rest.
"""

from thirdeye.model.linear.choose_method import choose_linear
from thirdeye.model.linear.unquantized import Unquantized
from thirdeye.model.placement import Placement, can_fuse

ATTENTION = {"cpu": ("native", "blocked"), "cuda": ("triton",)}


def check_deterministic(where: Placement, attention: str) -> None:
    """Raises ValueError for a choice that lets a token's company change its bits."""
    device = where.device.type
    kept = ATTENTION[device]
    if device == "cuda" and not can_fuse(where.device):
        raise ValueError("'--deterministic' on a GPU needs the package triton: install it.")
    if attention not in ("auto", *kept):
        raise ValueError(
            f"'--deterministic' needs '--attention' {' or '.join(kept)} here, got {attention}: "
            "use 'auto'."
        )
    if device == "cuda" and where.quantize != "none":
        raise ValueError(
            f"'--deterministic' does not go with '--quantize' {where.quantize} on a GPU: "
            "use '--quantize none'."
        )
    if type(choose_linear(where)) is Unquantized:
        dtype = str(where.dtype).removeprefix("torch.")
        raise ValueError(
            "'--deterministic' on a CPU needs '--dtype' float32 or bfloat16, and a processor and "
            f"a torch that multiply rows alike, got {dtype}: leave the flag out."
        )
