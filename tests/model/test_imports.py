"""What importing the model costs and needs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(code: str) -> None:
    """A fresh interpreter that sees no GPU."""
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=60,
    )


def test_every_module_imports_without_a_gpu() -> None:
    """A laptop must be able to import all of it, with no optional package."""
    files = (ROOT / "model").rglob("*.py")
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    run("import " + ", ".join(n.removesuffix(".__init__") for n in names))


def test_describing_a_model_needs_no_torch() -> None:
    """`thirdeye info` and `--help` answer at once: torch alone takes a second to import."""
    run("import sys, model.config, model.describe; assert 'torch' not in sys.modules")
