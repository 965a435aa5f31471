"""Quantized safetensors: what `quantization_config` says, and how each method's tensors are read.

    methods              config.json -> a method, or a refusal by its name
    quantized_weight     several tensors that are one matrix; every method gives these
    gather_weights       the names in the files -> plain tensors and such weights
    module_patterns      "modules_to_not_convert", "ignore", ...: names, wildcards, expressions
    decode/              packed integers, four-bit floats, scales of blocks
    gptq  awq  compressed_tensors  fp8  modelopt  mxfp4  bitsandbytes      a method each

A weight is decoded when it is loaded, some rows at a time, into float32: the numbers that the
method's own kernels would multiply by, before any rounding to 16 bits. Roundings of activations and
of cached keys, which some methods prescribe too, are not done: both stay in the model's own
precision.
"""
