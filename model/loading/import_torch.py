"""torch, without what a served model does not use of it: a third less to import.

At the end of its import torch registers, in Python, which shapes its operations give for tensors
without data, and for that loads its references and decompositions, 20 modules: 0.35 s of a core and
18 MB. `torch.Generator` comes with them. Only an operation that no kernel of ours does asks for
shapes (`native/tapes/torch_call.py`), and a few readings for random numbers
(`inspection/seeded.py`): they import it then.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

SHAPES = "torch._meta_registrations"
KNOWN = "2.13."  # whose import asks the module for nothing


def import_torch() -> None:
    """Import it, if nobody has; call it before anything else does. Afterwards all of torch is there
    to be imported."""
    if "torch" in sys.modules:
        return
    if not version("torch").startswith(KNOWN):
        import torch  # noqa: PLC0415

        return
    sys.modules[SHAPES] = ModuleType(SHAPES)
    try:
        import torch  # noqa: PLC0415
    finally:
        del sys.modules[SHAPES]
    vars(torch).pop(SHAPES.rpartition(".")[2], None)


def import_rest() -> None:
    """What was left out, if it was."""
    import_module(SHAPES)
