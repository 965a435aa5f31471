"""Models with multi-head latent attention: DeepSeek V2 and V3, and those that took it over."""
