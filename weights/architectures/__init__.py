"""One file per architecture, by family: a reader of its settings and a table of its tensor names;
`registry.py` lists them."""
