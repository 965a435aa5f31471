"""Layers that keep a state, in C."""
