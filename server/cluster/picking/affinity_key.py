"""Whose prefix a request may share: the key by which a cluster sends it to a replica.

The session if the client names one. Else the conversation's beginning, up to its first message of
a user: each turn sends it again, so all turns have one key, and two conversations that share a
system prompt have two, so a popular system prompt does not make one replica hot. Of a bare prompt
the first 1,024 characters.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

HEAD_CHARS = 1024  # of a prompt
FIELDS = ("messages", "input", "prompt")  # of chat and Messages, Responses, completions


def affinity_key(body: Mapping[str, Any], session: str | None = None) -> bytes | None:
    """None if there is nothing to share. `session` is the header `x-session-id`; it may be any
    text, and is no secret: who sends another's shares its replica and nothing else."""
    if session:
        return _digest(["session", session])
    for field in FIELDS:
        if head := _head(body.get(field)):
            return _digest(
                [body.get("model"), body.get("system") or body.get("instructions"), head]
            )
    return None


def key_of_cut_body(body: bytes) -> bytes:
    """Of a body of which only the beginning is there, so that it cannot be read: what a client
    sends first is mostly the same in all turns of a conversation."""
    return _digest(["cut", body[:HEAD_CHARS].decode("latin-1")])


def _head(prompt: object) -> object:
    if isinstance(prompt, str):
        return prompt[:HEAD_CHARS]
    if not isinstance(prompt, list):
        return None
    head: list[object] = []
    for item in prompt:
        head.append(item)
        if isinstance(item, dict) and item.get("role") == "user":
            return head
    return head[:HEAD_CHARS]  # token ids, or a list of prompts


def _digest(parts: list[object]) -> bytes:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
