"""What an edit did, in numbers: against the definition in float64."""

import torch

from thirdeye.model.inspection.measures.effects import effects


def test_a_divergence_is_that_of_distributions_and_never_below_zero() -> None:
    """Also of two that differ by float32's rounding alone, whose sums are not quite 1."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(200, generator=generator).mul(3).log_softmax(-1)
    near = base + 1e-6 * torch.randn(300, 200, generator=generator)
    far = torch.randn(300, 200, generator=generator).log_softmax(-1)
    for changed in (near, far):
        p, q = base.double().exp(), changed.double().exp()
        p, q = p / p.sum(), q / q.sum(-1, keepdim=True)
        expected = (p * (p / q).log()).sum(-1)
        found = effects(base, changed, [3])[:, 0]
        assert found.min() >= 0
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_a_token_that_neither_gives_any_mass_counts_nothing() -> None:
    base = torch.tensor([0.0, 1.0, -torch.inf]).log_softmax(-1)
    changed = torch.tensor([[1.0, 0.0, -torch.inf]]).log_softmax(-1)
    expected = (base.exp() * (base - changed[0]))[:2].sum()
    torch.testing.assert_close(effects(base, changed, [0])[0, 0].float(), expected)
