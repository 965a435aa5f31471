"""What several methods have in common: packed integers, four-bit floats, scales of blocks."""
