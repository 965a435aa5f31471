"""How paged attention adds up, read off what the compiler has made of it (`block_values.py`)."""

import re

from tests.fake_gpu.sums.block_values import Values, blocks_of


def tile_sums(ptx: str) -> set[str]:
    """Of a tile of keys: products and their sums, and what is rounded on the way."""
    (block,) = [block for block in blocks_of(ptx) if "mma.sync" in block]
    return Values(ptx, block).results


def merges(ptx: str) -> set[str]:
    """Of a split's share with the sum of those before it."""
    found = [b for b in blocks_of(ptx) if "ex2.approx" in b and "mma" not in b]
    return set().union(*(Values(ptx, block).results for block in found))


def divisions(ptx: str) -> list[str]:
    return sorted(set(re.findall(r"div\.\S*f32", ptx)))


def sums(ptx: str) -> dict[str, list[str]]:
    """As JSON can tell it."""
    has_tiles = ptx.count("mma.sync") > 0
    return {
        "tile": sorted(tile_sums(ptx)) if has_tiles else [],
        "merges": sorted(merges(ptx)),
        "divisions": divisions(ptx),
    }
