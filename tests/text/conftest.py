"""No deadline per example: a busy machine is not a bug, and pytest's own timeout catches a hang."""

from hypothesis import settings

settings.register_profile("no deadline", parent=settings(), deadline=None)
settings.load_profile("no deadline")
