"""What the compiler makes of kernels for an H100, read off its own files."""

from pathlib import Path
from typing import Any

import pytest

from tests.draws import also_at_night, is_night
from tests.fake_gpu.children.child import Child
from thirdeye.model.kernels.products.fixed_matmul import BLOCK_K

REGISTERS_OF_A_MULTIPROCESSOR, SHARED_OF_A_MULTIPROCESSOR = 65536, 227 << 10
THREADS = 128
BYTES_OF_A_SUM = 512  # of a wide tile's 128 x 256, a thread of 256


@pytest.fixture(scope="module")
def report(child: Child) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = child.run("tests.fake_gpu.compiled")
    return found


def test_a_vectors_scale_is_of_an_exact_division(report: dict[str, dict[str, Any]]) -> None:
    """An approximate one may be too large by the last bit, and the exponent then by one."""
    assert report["rope_kv_kernel"]["divisions"] == ["div.rn.f32"]


KINDS_OF_A_TILE = {
    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",  # weighted values, onto those before
    "fma.rn.f32",  # the total, onto that before
    "add.f32",  # of a thread's and its neighbours' weights
    "stored",  # weights in 16 bits
}
DECODE = ("decode", "kept by one program", "kept by several programs")
CHUNK, WIDE_CHUNK = "attention, chunk", "attention, chunk of 512"


def programs(kernel: dict[str, Any], threads: int = THREADS) -> int:
    """As many as a multiprocessor has at a time."""
    by_registers = REGISTERS_OF_A_MULTIPROCESSOR // (threads * kernel["registers"])
    return int(min(by_registers, SHARED_OF_A_MULTIPROCESSOR // kernel["shared"]))


@pytest.mark.parametrize("form", DECODE)
def test_decode_attention_loads_ahead(report: dict[str, dict[str, Any]], form: str) -> None:
    """The block table takes a stage as well as keys and values: with two buffers of each, the next
    tile is on its way while this one is multiplied; as many programs fit as with one, three. That
    holds too where it first norms and turns what is projected."""
    kernel = report[f"attention, {form}"]
    assert kernel["buffers"] == [2]
    assert max(kernel["waits"]) >= 3
    assert programs(kernel) >= 3


def test_a_new_key_is_kept_before_keys_are_loaded(report: dict[str, dict[str, Any]]) -> None:
    """Stores into the cache, a barrier of the program's threads, the first tile: in this order in
    the machine code, where the compiler might have loaded earlier."""
    assert not report["attention, decode"]["kept_before_loads"], "what is looked for would be found"
    for form in DECODE[1:]:
        assert report[f"attention, {form}"]["kept_before_loads"], form


def test_a_prompts_attention_has_two_programs(report: dict[str, dict[str, Any]]) -> None:
    """Which take turns: while one loads and sums up, the other multiplies, by warp groups. All
    registers that two leave to each are in use; large heads, whose sums take twice as many, have
    one program of as many threads."""
    chunk, wide = report[CHUNK], report[WIDE_CHUNK]
    assert chunk["buffers"] == [2]
    assert chunk["operations"]["HGMMA.64"] > 0
    assert programs(chunk) == 2
    assert programs(wide, threads=2 * THREADS) == 1


def test_no_loop_reads_what_is_spilled(report: dict[str, dict[str, Any]]) -> None:
    """What has no register lies in memory: whatever that is, no round of a loop that multiplies
    waits for it."""
    in_loops = {name: kernel["spilled_in_products"] for name, kernel in report.items()}
    assert in_loops[CHUNK] == in_loops[WIDE_CHUNK] == in_loops["fixed, wide"] == 0
    assert [in_loops[f"attention, {form}"] for form in DECODE] == [0, 0, 0]
    assert max(in_loops.values()) == 0  # -1: there is no such loop


def test_nothing_is_spilled(report: dict[str, dict[str, Any]]) -> None:
    """But for these two, beside their loops: sums that take more registers than there are."""
    assert {"choose_tokens_kernel", "begin_step_kernel", CHUNK} < set(report)
    spilled = {name for name, kernel in report.items() if kernel["stack"]}
    assert spilled <= {"fixed, wide", WIDE_CHUNK}
    assert report["fixed, wide"]["stack"] <= BYTES_OF_A_SUM
    assert report[WIDE_CHUNK]["stack"] <= 16


def few_rows(report: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    prefix = "few rows, "
    return {n.removeprefix(prefix): k for n, k in report.items() if n.startswith(prefix)}


def test_few_rows_load_ahead(report: dict[str, dict[str, Any]]) -> None:
    """Weights come 16 bytes at a time, steps of them under way while one is multiplied by tensor
    cores; narrower are a norm's weight and what follows the sums."""
    kernels = few_rows(report)
    assert {"a gate of a sum", "int4, a gate", "float32"} < set(kernels)
    for name, kernel in kernels.items():
        operations = kernel["operations"]
        loads = 2 + ("gate" in name) + ("sum" in name or "," in name)
        assert operations["LDGSTS.E.BYPASS.128"] >= 3 * loads, name
        assert kernel["buffers"] == [4 if "int4" in name else 3], name
        assert max(kernel["waits"]) >= 2 * loads, name
        assert ("HMMA.16816.F32.BF16" in operations) == (name != "float32"), name


def test_few_rows_of_dense_weights_leave_room_for_others(report: dict[str, dict[str, Any]]) -> None:
    """Three programs of a multiprocessor read at the same time: one waits where another adds up."""
    for name, kernel in few_rows(report).items():
        if "," not in name:
            assert SHARED_OF_A_MULTIPROCESSOR // kernel["shared"] >= 3, name
            assert REGISTERS_OF_A_MULTIPROCESSOR // (THREADS * kernel["registers"]) >= 3, name


def test_nothing_is_touched_before_the_kernel_before_is_complete(
    report: dict[str, dict[str, Any]],
) -> None:
    """In the machine code: one wait, in front of whatever reads or writes memory; and none of it
    before compute capability 9.0."""
    kernels = dict(report)
    plain = kernels.pop("begin_step, not launched early")
    assert (plain["is_dependent"], plain["dependent_waits"]) == (False, 0)
    assert plain["before_wait"], "what is looked for would be found"
    assert {"begin_step_kernel", "dequantize_kernel", "philox_kernel"} < set(kernels)
    for name, kernel in kernels.items():
        assert kernel["is_dependent"], name
        assert (kernel["dependent_waits"], kernel["dependent_launches"]) == (1, 1), name
        assert kernel["before_wait"] == [], name
    asked_for = {name for name, kernel in report.items() if "CCTL.E.PF2" in kernel["operations"]}
    assert asked_for == {name for name in report if name.startswith("few rows")}


def test_both_tiles_sum_in_one_order(report: dict[str, dict[str, Any]]) -> None:
    """16 inputs at a time, from the first to the last of a step, whatever the tile and the lanes:
    an instruction's width is of outputs, each of which is summed for itself."""
    for name, width in (("low", 128), ("wide", 256), ("wide, lanes", 256)):
        kernel = report[f"fixed, {name}"]
        steps = [[f"m64n{width}k16", 2 * step, 2 * step] for step in range(BLOCK_K // 16)]
        assert kernel["products"] == steps, name  # 16 numbers are 32 bytes
        assert kernel["operations"]["LDGSTS.E.BYPASS.128"] > 0
    assert report["fixed, low"]["operations"]["HGMMA.64"] == BLOCK_K // 16


def test_lanes_and_chunks_sum_in_one_order(report: dict[str, dict[str, Any]]) -> None:
    """A sequence's keys by one program or by 2, 5 or 33, or in a chunk's tile: the same products in
    the same order, rounded at the same places, of which the number of programs is no part; and
    shares are merged by the same instructions, in registers and from memory."""
    lanes, one = report["attention, decode"], report["attention, one lane"]["sums"]
    assert lanes["lanes"] == [1, 2, 5, 33]
    assert lanes["sums"]["tile"] == one["tile"]
    chunk = report["attention, a chunk in the same cut"]["sums"]
    assert {value.partition(" ")[0] for value in chunk["tile"]} == KINDS_OF_A_TILE
    assert set(chunk["tile"]) <= set(one["tile"]), "rows that a single token leaves empty have more"
    merge = report["merge_splits_kernel"]["sums"]
    assert [value.partition(" ")[0] for value in merge["merges"]] == ["fma.rn.f32"]
    assert merge["merges"] == one["merges"] == chunk["merges"]
    assert merge["divisions"] == one["divisions"] == chunk["divisions"] == ["div.full.f32"]


def test_a_cache_can_be_filled_in_advance(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machine code lies in a folder that may go elsewhere; of one check here, all of it, although
    what its first kernel wrote is not what it asks for."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    asked = child.run("tests.fake_gpu.in_advance.fill_cache", "norm torch.bfloat16")
    number = int(asked["norm torch.bfloat16"])
    assert len(list(tmp_path.rglob("*.cubin"))) == number > 6


@also_at_night
@pytest.mark.timeout(1800)
def test_kernels_compile_for_an_h100(child: Child) -> None:
    """To machine code, though there is no GPU to run it: each in its fullest forms, and at night in
    every form that a server may ask for."""
    found = child.run("tests.model.kernels.compile_kernels", *(["--every"] if is_night() else []))
    assert len({name for name, _ in found}) >= 15
    assert all(num_bytes > 0 for _, num_bytes in found)
