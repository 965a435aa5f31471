"""What a model consists of, part by part, without torch: shapes, names, roles, shares.

    parameter      one named tensor: its shape, its rows by name, how ranks deal it out
    parts          the kinds of part there are: tables, norms, linear layers
    block          the parts of one layer, from a `ModelConfig`
    transformer    the whole tree, and its parameters by their names
    check_config   which settings of a config go together
    stored         a tensor as a file keeps it: blocks of bytes, and what they stand for

Everything that must know a model's parameters asks here: the modules are built from these parts,
parameter counts are their sum, a checkpoint is held against their shapes, and a rank takes the
share that they say. A new part is written down once.
"""
