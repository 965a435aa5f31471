"""Totals that keys share, as one key may see them: too coarse to measure another's prompt by."""

POOL_PARTS = 16


def rounded_blocks(num_used: int, total: int) -> int:
    """Up to the next sixteenth of the pool; 0 stays 0."""
    part = max(total // POOL_PARTS, 1)
    return min(-(-num_used // part) * part, total)
