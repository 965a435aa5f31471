"""Tests' modules without their assertions: what is asserted is computed, and may be false.

`python -O` would leave out the computing too, and with it the kernels that are asked for there.
"""

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType


class Unasserted(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return ast.copy_location(ast.Expr(node.test), node)


class UnassertedLoader(SourceFileLoader):
    """From source, and into no cache of compiled modules."""

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), self.path)
        return compile(ast.fix_missing_locations(Unasserted().visit(tree)), self.path, "exec")


class UnassertedFinder(MetaPathFinder):
    """Of the package `tests`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        is_ours = fullname.startswith("tests.") and spec is not None
        if is_ours and type(spec.loader) is SourceFileLoader:
            spec.loader = UnassertedLoader(fullname, spec.loader.path)
            return spec
        return None


def install() -> None:
    """For modules that are imported from here on."""
    sys.meta_path.insert(0, UnassertedFinder())
