"""What importing the model costs and needs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NO_TRITON = "\nimport sys; assert 'thirdeye.model.kernels.paged_attention' not in sys.modules"


def run(code: str) -> None:
    """A fresh interpreter that sees no GPU."""
    subprocess.run(
        [sys.executable, "-c", "import gc; gc.disable()\n" + code],
        cwd=ROOT,
        env={"CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=60,
    )


def test_every_module_imports_without_a_gpu() -> None:
    """A laptop must be able to import all of it, with no optional package; kernels are optional."""
    files = [f for f in (ROOT / "model").rglob("*.py") if f.parent.name != "kernels"]
    names = ["thirdeye." + ".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    run("import " + ", ".join(n.removesuffix(".__init__") for n in names) + NO_TRITON)


def test_describing_a_model_needs_no_torch() -> None:
    """`thirdeye info` and `--help` answer at once: torch alone takes a second to import."""
    run(
        "import sys, thirdeye.model.config, thirdeye.model.parameter_counts, "
        "thirdeye.model.declare.stored; "
        "assert 'torch' not in sys.modules"
    )
