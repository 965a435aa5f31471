"""Tests that an older library cannot run, though the product works there: such skips stand here."""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version


@dataclass(frozen=True)
class TooOld:
    """Tests of `path` whose name fits `name` skip where `package` is older than `needs`."""

    path: str
    name: str  # a regular expression for all of it, parameters too
    package: str
    needs: str
    reason: str

    def fits(self, node_id: str) -> bool:
        path, _, name = node_id.partition("::")
        return path == self.path and re.fullmatch(self.name, name) is not None

    def is_installed(self) -> bool:
        try:
            return Version(version(self.package)) < Version(self.needs)
        except PackageNotFoundError:
            return False


PRODUCTS = "tests/model/linear/test_quantized.py"
GPU_RUN = "tests/server/bench/test_gpu_run.py"
ON_RANKS = "tests/model/parallel/test_parallel_quantized.py"
COMPILES = "tests/fake_gpu/test_compiles.py"
COMPILED = "tests/fake_gpu/test_compiled.py"
ROW_SCALES = "torch._scaled_mm has no scales of rows on a CPU there; on a GPU it has"
SPILLS = (
    "its ptxas spills 8 bytes a thread, for 128 registers, of decode attention whose new key one of"
    " several programs keeps, and 24, not 16, of a chunk's with heads of 512; none in a loop over"
    " keys, which test_no_loop_reads_what_is_spilled holds there too"
)
MORE_ROWS = r"(17|40|70)"  # than those that are multiplied in 16 bits

TOO_OLD = (
    TooOld(PRODUCTS, rf"test_products\[{MORE_ROWS}-fp8\]", "torch", "2.12", ROW_SCALES),
    TooOld(PRODUCTS, r"test_shapes\[.*-fp8\]", "torch", "2.12", ROW_SCALES),
    TooOld(PRODUCTS, r"test_a_broken_row_.*\[.*-20-fp8\]", "torch", "2.12", ROW_SCALES),
    TooOld(PRODUCTS, r"test_whole_models_.*\[fp8-.*\]", "torch", "2.12", ROW_SCALES),
    TooOld(ON_RANKS, rf"test_by_outputs_.*\[fp8-.*-{MORE_ROWS}\]", "torch", "2.12", ROW_SCALES),
    TooOld(ON_RANKS, r"test_by_inputs_sums_.*\[fp8-.*\]", "torch", "2.12", ROW_SCALES),
    TooOld(COMPILES, r"test_none_however_.*\[fp8\]", "torch", "2.12", ROW_SCALES),
    TooOld(COMPILED, "test_nothing_is_spilled", "triton", "3.7", SPILLS),
    TooOld(GPU_RUN, "test_it_runs_to_its_end", "torch", "2.12", ROW_SCALES),
)


def is_skipped(node_id: str) -> bool:
    """Whether a test skips with what is installed."""
    return any(row.fits(node_id) for row in TOO_OLD if row.is_installed())
