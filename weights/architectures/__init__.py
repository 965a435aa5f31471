"""One file per architecture: a reader of its settings and a table of its tensor names."""
