"""Models whose MLPs are experts, of which a token takes a few."""
