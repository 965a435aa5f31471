"""How each of ggml's block types becomes numbers: a function a type, in a file a family.

    simple      Q4_0 Q4_1 Q5_0 ... Q1_0 Q2_0    a scale, perhaps a minimum, then integers
    k_quants    Q2_K Q3_K Q4_K Q5_K Q6_K        groups in blocks of 256, their scales integers
    nonlinear   IQ4_NL IQ4_XS                   four bits that look a value up
    floats      MXFP4 NVFP4                     four-bit floats under an 8-bit one
    ternary     TQ1_0 TQ2_0                     -1, 0 and 1
    codebooks   IQ1_S IQ1_M IQ2_* IQ3_*         indices into a grid of points, and signs

Each takes blocks [n, block_bytes] uint8 and fills out [n, block_size] float32. The order of the
float operations is that of ggml's reference, so the results are equal to it bit for bit.

Source: the block structures in ggml's `ggml-common.h`.
"""
