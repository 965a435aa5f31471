"""What is left out of a block's values, and what is not."""

import pytest

from tests.fake_gpu.sums.block_values import Values

LOOP = """
	mov.b32 	%r10, 0f00000000;
	sub.f32 	%r2, %r1, %r3;
	mul.f32 	%r11, %r1, %r2;
	selp.f32 	%r12, %r11, 0fFF800000, %p1;
	fma.rn.f32 	%r20, %r20, %r3, %r12;
	add.f32 	%r13, %r20, %r12;
	st.shared.b32 	[%r5], %r13;
"""
OTHERS = {
    "names": LOOP.replace("%r1", "%r9"),
    "factors": LOOP.replace("%r1, %r2", "%r2, %r1"),
    "a mask more": LOOP.replace("fma.rn", "selp.f32 	%r12, %r12, 0fFF800000, %p2;\n	fma.rn"),
    "a maximum": LOOP.replace("mov.b32 	%r10, 0f00000000;", "max.f32 	%r10, %r1, %r2;"),
}
DIFFERENT = {
    "a product that is rounded": LOOP.replace(
        "fma.rn.f32 	%r20, %r20, %r3, %r12;",
        "mul.f32 	%r14, %r20, %r3;\n	add.f32 	%r20, %r14, %r12;",
    ),
    "what is fused": LOOP.replace("%r20, %r20, %r3, %r12", "%r20, %r12, %r3, %r20"),
    "before, not behind": LOOP.replace("add.f32 	%r13, %r20", "add.f32 	%r13, %r11"),
}


def results(block: str) -> set[str]:
    return Values(block, block).results


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_bits_are_the_same_values(name: str) -> None:
    assert results(OTHERS[name]) == results(LOOP)
    assert len(results(LOOP)) == 2


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_bits_are_others(name: str) -> None:
    assert results(DIFFERENT[name]) != results(LOOP)
