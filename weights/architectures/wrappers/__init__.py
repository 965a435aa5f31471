"""Models that see or hear beside a text model, which alone is served."""
