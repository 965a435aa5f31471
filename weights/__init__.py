"""From a checkpoint to tensors, a `ModelConfig` and a tokenizer; knows no server and no module.

    resolve, pull, catalog, paths    a name -> a path
    checkpoint                       a path -> one view of it, by formats/
    architectures/                   its names and settings -> ours
    load                             tensors -> a model

Nothing here imports torch before a tensor is asked for.
"""
