"""Families that are Llama but for a norm, an order or a part of their own."""
