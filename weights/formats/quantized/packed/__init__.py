"""Integers in words of 32 bits, with scales and zero points by groups: GPTQ, AWQ, auto-round."""
