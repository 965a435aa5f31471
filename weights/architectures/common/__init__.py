"""What several readers of configurations share: activations, layer types, limits, rope."""
