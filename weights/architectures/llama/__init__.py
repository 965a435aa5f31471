"""Llama and the models that are it, with a norm, a window or a number changed."""
