"""Damage: of bytes, of lengths in a binary file, and of values in JSON. A seed decides which."""

import copy
import json
import random
import struct
from typing import Any

NUMBERS = (0, 1, 2, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
DEEP = 200  # what is nested deeper is a case of its own
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 10**9, 2**63, 10**400, 0.0, -0.5, 1.5, 1e-300, 1e300),
    *(float("nan"), float("inf"), "", "0", "llama", "\ud800", "\0", "x" * 100_000, "../../etc"),
    *([], [[]], {}, [None], [1, "a", None], {"": ""}, {"type": None}, {"type": "Sequence"}),
    *(["x"] * 10_000, {"content": ["x"]}, {str(i): i for i in range(1000)}, "{% for x in y %}"),
    *("{{ 1 // 0 }}", "{{ 'x' * 10 ** 9 }}", [{"name": [], "template": 3}], [{"name": "default"}]),
)


def mutated(raw: bytes, name: str, seed: int) -> bytes:
    """The file with one to three faults. `name` tells how its contents are made."""
    dice = random.Random(f"{name} {seed}")
    is_json = name.endswith(".json")
    for _ in range(dice.choice((1, 1, 2, 3))):
        if is_json and dice.random() < 0.8:
            raw = _change_json(raw, dice)
        elif name == "tokenizer.model" or is_json or dice.random() < 0.5:
            raw = _change_bytes(raw, dice)
        else:
            raw = _change_number(raw, dice)
    return raw


def _change_bytes(raw: bytes, dice: random.Random) -> bytes:
    at = _position(raw, dice)
    some = raw[at : at + dice.choice((1, 2, 8, 100))]
    match dice.randrange(6):
        case 0:
            return (
                raw[:at]
                + bytes(byte ^ 1 << dice.randrange(8) for byte in some)
                + raw[at + len(some) :]
            )
        case 1:
            return raw[:at] + dice.randbytes(len(some)) + raw[at + len(some) :]
        case 2:
            return raw[:at] + raw[at + len(some) :]
        case 3:
            return raw[:at] + some * dice.choice((2, 3, 50)) + raw[at + len(some) :]
        case 4:
            return raw[:at] + dice.choice((b"\0", b"\xff")) * len(some) + raw[at + len(some) :]
        case _:
            return raw[:at]


def _change_number(raw: bytes, dice: random.Random) -> bytes:
    """A count, a length or an offset: of 32 or 64 bits, little-endian."""
    at = _position(raw, dice)
    value = dice.choice((*NUMBERS, len(raw), len(raw) - at, len(raw) + 1))
    size = dice.choice((4, 8))
    number = struct.pack("<Q", value % 2**64)[:size]
    return raw[:at] + number + raw[at + size :]


def _position(raw: bytes, dice: random.Random) -> int:
    """More often in the description, which comes first, than in what follows it."""
    return dice.randrange(max(1, min(len(raw), dice.choice((64, 1024, 8192, len(raw))))))


def _change_json(raw: bytes, dice: random.Random) -> bytes:
    """A value, a key or an item is replaced, removed, repeated or added."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return _change_bytes(raw, dice)
    parent, key = _somewhere(value, dice)
    if parent is None:
        return json.dumps(dice.choice(HOSTILE)).encode()
    match dice.randrange(5):
        case 0 | 1:
            parent[key] = dice.choice(HOSTILE)
        case 2:
            del parent[key]
        case 3 if isinstance(parent, dict):
            text = json.dumps(value)
            pair = f"{json.dumps(key)}: {json.dumps(dice.choice(HOSTILE))}, "
            at = text.find(json.dumps(key))
            return (text[:at] + pair + text[at:]).encode()  # the key twice
        case 3:
            parent.insert(key, copy.deepcopy(parent[key]))
        case _:
            for _ in range(DEEP):
                parent[key] = [parent[key]] if dice.random() < 0.5 else {"type": parent[key]}
    return json.dumps(value).encode()


def _somewhere(value: Any, dice: random.Random) -> tuple[Any, Any]:
    """A container and a key in it, each level as likely as the next."""
    parent, key = None, None
    while isinstance(value, dict | list) and value and (parent is None or dice.random() < 0.7):
        parent, key = (
            value,
            dice.choice(list(value) if isinstance(value, dict) else range(len(value))),
        )
        value = value[key]
    return parent, key
