"""What `stored_linear.c` computes, slowly: blocks read by the words of ggml's structures, whole
numbers in int64, and each float operation rounded once to float32."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thirdeye.model.declare.stored import StoredTensor
from thirdeye.weights.formats.gguf.dequantize import stored_tensor
from thirdeye.weights.formats.gguf.format import TENSOR_TYPES, TensorType

Array = npt.NDArray[Any]
GROUP, SHARES = 32, 16383
WHOLE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K")  # one term, of whole numbers, a group
E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]  # doubled
IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]


@dataclass(frozen=True, slots=True)
class Group:
    """32 weights: q * scale + minimum, with one or two scales for equally many of them."""

    q: list[int]
    scales: list[float]
    minimums: list[float]


def tensor_type(name: str) -> TensorType:
    return next(kind for kind in TENSOR_TYPES.values() if kind.name == name)


def tensor_of(name: str, blocks: Array) -> StoredTensor:
    """blocks [rows, bytes of a row] as the loader has them."""
    kind = tensor_type(name)
    width = blocks.shape[1] // kind.block_bytes * kind.block_size
    return stored_tensor(memoryview(blocks.tobytes()), kind, (len(blocks), width))


def half(block: bytes, offset: int) -> float:
    return float(np.frombuffer(block, "<f2", 1, offset)[0])


def nibbles(packed: bytes) -> list[int]:
    return [byte & 15 for byte in packed] + [byte >> 4 for byte in packed]


def small(block: bytes, *, less: int, has_minimum: bool, has_fifth: bool) -> list[Group]:
    start = 2 + 2 * has_minimum
    fifth = int.from_bytes(block[start : start + 4], "little") if has_fifth else 0
    packed = nibbles(block[start + 4 * has_fifth :])
    q = [low | (fifth >> i & 1) << 4 for i, low in enumerate(packed)]
    minimums = [half(block, 2)] if has_minimum else []
    return [Group([each - less for each in q], [half(block, 0)], minimums)]


def q8_0(block: bytes) -> list[Group]:
    return [Group([(byte ^ 128) - 128 for byte in block[2:]], [half(block, 0)], [])]


def six_bits(packed: bytes, group: int) -> tuple[int, int]:
    """The scale and the minimum of one of 8."""
    if group < 4:
        return packed[group] & 63, packed[group + 4] & 63
    later = packed[group + 4]
    return later & 15 | packed[group - 4] >> 6 << 4, later >> 4 | packed[group] >> 6 << 4


def q4_or_q5_k(block: bytes, *, has_fifth: bool) -> list[Group]:
    groups = []
    for group in range(8):
        scale, minimum = six_bits(block[4:16], group)
        start = (48 if has_fifth else 16) + group // 2 * 32
        q = [byte >> group % 2 * 4 & 15 for byte in block[start : start + 32]]
        if has_fifth:
            q = [low | (byte >> group & 1) << 4 for low, byte in zip(q, block[16:48], strict=True)]
        groups.append(Group(q, [half(block, 0) * scale], [half(block, 2) * -minimum]))
    return groups


def q6_k(block: bytes) -> list[Group]:
    groups = []
    for group in range(8):
        low = block[group // 4 * 64 + group % 2 * 32 :][:32]
        high = block[128 + group // 4 * 32 :][:32]
        low_shift, high_shift = group % 4 // 2 * 4, group % 4 * 2
        q = [
            (a >> low_shift & 15 | (b >> high_shift & 3) << 4) - 32
            for a, b in zip(low, high, strict=True)
        ]
        scales = np.frombuffer(block, np.int8, 2, 192 + 2 * group).tolist()
        groups.append(Group(q, [half(block, 208) * scale for scale in scales], []))
    return groups


def q2_k(block: bytes) -> list[Group]:
    groups = []
    for group in range(8):
        q = [byte >> group % 4 * 2 & 3 for byte in block[16 + group // 4 * 32 :][:32]]
        both = block[2 * group : 2 * group + 2]
        scales = [half(block, 80) * (byte & 15) for byte in both]
        groups.append(Group(q, scales, [half(block, 82) * -(byte >> 4) for byte in both]))
    return groups


def q3_k(block: bytes) -> list[Group]:
    packed = block[96:108]
    scales = [
        (packed[i % 8] >> i // 8 * 4 & 15 | (packed[8 + i % 4] >> i // 4 * 2 & 3) << 4) - 32
        for i in range(16)
    ]
    groups = []
    for group in range(8):
        low = [byte >> group % 4 * 2 & 3 for byte in block[32 + group // 4 * 32 :][:32]]
        q = [a - (0 if b >> group & 1 else 4) for a, b in zip(low, block[:32], strict=True)]
        own = scales[2 * group : 2 * group + 2]
        groups.append(Group(q, [half(block, 108) * scale for scale in own], []))
    return groups


def iq4_nl(block: bytes) -> list[Group]:
    return [Group([IQ4[q] for q in nibbles(block[2:])], [half(block, 0)], [])]


def iq4_xs(block: bytes) -> list[Group]:
    groups = []
    for group in range(8):
        low = block[4 + group // 2] >> group % 2 * 4 & 15
        high = int.from_bytes(block[2:4], "little") >> 2 * group & 3
        q = [IQ4[each] for each in nibbles(block[8 + 16 * group :][:16])]
        groups.append(Group(q, [half(block, 0) * ((low | high << 4) - 32)], []))
    return groups


def mxfp4(block: bytes) -> list[Group]:
    return [
        Group([E2M1[q] for q in nibbles(block[1:])], [float(np.ldexp(1.0, block[0] - 128))], [])
    ]


READERS = {
    "Q4_0": lambda b: small(b, less=8, has_minimum=False, has_fifth=False),
    "Q4_1": lambda b: small(b, less=0, has_minimum=True, has_fifth=False),
    "Q5_0": lambda b: small(b, less=16, has_minimum=False, has_fifth=True),
    "Q5_1": lambda b: small(b, less=0, has_minimum=True, has_fifth=True),
    "Q8_0": q8_0,
    "Q4_K": lambda b: q4_or_q5_k(b, has_fifth=False),
    "Q5_K": lambda b: q4_or_q5_k(b, has_fifth=True),
    "Q6_K": q6_k,
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "IQ4_NL": iq4_nl,
    "IQ4_XS": iq4_xs,
    "MXFP4": mxfp4,
}


def groups_of(stored: StoredTensor) -> list[list[Group]]:
    """[rows][groups]"""
    size = tensor_type(stored.format).block_bytes
    read = READERS[stored.format]
    return [
        [group for at in range(0, len(row), size) for group in read(row[at : at + size].tobytes())]
        for row in stored.blocks
    ]


def fma(x: Array, y: Array, z: Array) -> Array:
    """x y + z of float32, rounded once.

    The product is exact in float64. The sum is rounded to odd there, which keeps what decides the
    rounding to float32 (Boldo, Melquiond 2008): 53 bits are more than 24 + 2.
    """
    product, z = x.astype(np.float64) * y, z.astype(np.float64)
    total = product + z
    rest = total - product
    error = (product - (total - rest)) + (z - rest)  # Knuth's TwoSum: exact
    is_even = total.view(np.int64) & 1 == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & is_even, np.nextafter(total, towards), total)
    return odd.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Rounded:
    """Channels as whole numbers."""

    codes: Array  # [T, groups, 2, 16] int64
    shares: Array  # [T, groups, 2] int64: what one is worth, in units
    unit: Array  # [T] float32

    @property
    def worth(self) -> Array:
        """[T, groups, 2, 1] float32"""
        return (self.shares.astype(np.float32) * self.unit[:, None, None])[..., None]


def rounded(x: Array) -> Rounded:
    """x [T, in] float32"""
    x = x.reshape(len(x), -1, 2, GROUP // 2)
    tops = np.abs(x).max(-1)
    largest = np.maximum(tops.max((1, 2)), np.float32(1e-30))[:, None, None]
    shares = np.rint(tops * (np.float32(SHARES) / largest) + np.float32(0.5))
    shares = np.maximum(shares, np.float32(1))
    units = np.float32(SHARES * 127) / largest / shares
    codes = np.rint(x * units[..., None]).astype(np.int64)
    unit = largest[:, 0, 0] / np.float32(SHARES * 127)
    return Rounded(codes, shares.astype(np.int64), unit)


def product(x: Array, stored: StoredTensor, bias: Array | None = None) -> Array:
    """x [T, in] float32 -> [T, rows] float32."""
    rows = groups_of(stored)
    q = np.array([[group.q for group in row] for row in rows])  # [rows, groups, 32]
    scales = np.array([[group.scales for group in row] for row in rows])  # [rows, groups, 1 or 2]
    minimums = np.array([[group.minimums for group in row] for row in rows])
    num_scales, is_whole = scales.shape[2], stored.format in WHOLE
    assert (scales == scales.astype(np.float32)).all(), "a scale is exact"
    r = rounded(x)
    y = np.zeros((len(x), len(rows)), np.float32)
    for group in range(q.shape[1]):
        own, shares = r.codes[:, group], r.shares[:, group]
        sums = np.einsum("thi,rhi->htr", own, q[:, group].reshape(len(rows), 2, -1))
        terms = sums * shares.T[:, :, None]  # [2, T, rows]
        scale = scales[:, group].T.astype(np.float32)  # [scales, rows]
        floats, units = sums.astype(np.float32), shares.astype(np.float32)[..., None]
        if is_whole:
            term = terms.sum(0)
            assert np.abs(term).max() < 2**31
            y = fma(term.astype(np.float32), scale[0], y)
        elif num_scales == 1:
            term = floats[0] * units[:, 0]
            term = fma(floats[1], units[:, 1], term)
            y = fma(term, scale[0], y)
        else:
            for half in range(2):
                y = fma(floats[half] * scale[half], units[:, half], y)
        amounts = own.sum(-1) * shares  # [T, 2], whole numbers
        if minimums.shape[2] == 1:
            amounts = amounts.sum(1, keepdims=True)
        for part in range(minimums.shape[2]):
            minimum = minimums[:, group, part].astype(np.float32)  # [rows]
            amount = amounts[:, part, None].astype(np.float32)
            y = fma(np.broadcast_to(minimum, y.shape), amount, y)
    y = y * r.unit[:, None]
    return y if bias is None else y + bias


PANEL, LIKELIEST = 48, 16  # rows that are refined together, and how often


def refined(x: Array, stored: StoredTensor, bias: Array | None = None) -> Array:
    """The same of a head: the panels with a token's largest results also have the products of what
    rounding took off."""
    y = product(x, stored, bias)
    r = rounded(x)
    whole = fma(-r.codes.astype(np.float32), r.worth, x.reshape(r.codes.shape))
    more = product(whole.reshape(x.shape), stored)
    for own, extra in zip(y, more, strict=True):
        starts = range(0, len(own), PANEL)
        largest = sorted(starts, key=lambda start: -own[start : start + PANEL].max())
        for start in largest[:LIKELIEST]:  # of two alike the upper one, for sorting is stable
            own[start : start + PANEL] += extra[start : start + PANEL]
    return y
