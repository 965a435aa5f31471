"""Models some of whose layers keep a state."""
