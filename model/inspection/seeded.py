"""Random numbers of torch's, always the same ones for a seed."""

import torch

from thirdeye.model.loading.import_torch import import_rest


def seeded(seed: int) -> torch.Generator:
    import_rest()  # generators are among it
    return torch.Generator().manual_seed(seed)
