"""GGUF files, strictly and lazily: `reader` checks, `dequantize` unpacks, `checkpoint` joins."""
