"""Llamas that scale embeddings, scores, what layers add to the stream, or logits."""
