"""What the numbers of heads and the hidden size must have to do with each other."""

from thirdeye.weights.formats.fields import Fields


def check_kv_heads(fields: Fields, key: str, num_heads: int, num_kv_heads: int) -> None:
    if num_heads % num_kv_heads:
        raise fields.error(key, f"{num_kv_heads} key-value heads do not divide {num_heads} heads.")


def split_into_heads(fields: Fields, key: str, hidden_size: int, num_heads: int) -> int:
    """The size of a head. `key`: where the number of heads stands."""
    if hidden_size % num_heads:
        problem = f"{num_heads} heads do not divide the hidden size {hidden_size}."
        raise fields.error(key, problem)
    return hidden_size // num_heads
