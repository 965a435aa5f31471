"""Families from before Llama: LayerNorms with biases, an MLP without a gate."""
