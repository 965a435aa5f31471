"""What the wheel brings: compiled kernels and their manifest, in a checkout nothing."""
