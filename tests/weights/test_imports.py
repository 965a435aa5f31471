"""Every module of `weights` imports without torch and without any optional package."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_module_imports_torch() -> None:
    modules = [
        "thirdeye."
        + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "weights").rglob("*.py")
    ]
    assert len(modules) > 20
    heavy = ("torch", "huggingface_hub", "transformers", "tokenizers", "gguf", "thirdeye.server")
    script = (
        f"import sys\nfor name in {heavy!r}: sys.modules[name] = None\n"
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
