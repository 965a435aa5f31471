"""Readers of architectures some of whose layers keep a state in place of keys and values."""
