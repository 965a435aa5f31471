"""What an unknown field was probably meant to be."""

from collections.abc import Collection

# Names that are near to none of ours -> what to use here, the first that is a field there.
_MEANT: dict[str, tuple[str, ...]] = {
    "chat_template_kwargs": ("reasoning", "thinking", "think"),
    "enable_thinking": ("reasoning", "thinking", "think"),
    "input": ("messages", "prompt"),
    "instructions": ("system", "messages"),
    "json_schema": ("format", "text", "output_config"),
    "max_completion_tokens": ("max_output_tokens", "max_tokens", "num_predict"),
    "max_length": ("max_tokens", "max_output_tokens", "num_predict"),
    "max_output_tokens": ("max_completion_tokens", "max_tokens", "num_predict"),
    "max_tokens": ("max_output_tokens", "num_predict"),
    "messages": ("input", "prompt"),
    "model_name": ("model",),
    "n_predict": ("max_output_tokens", "max_tokens", "num_predict"),
    "num_predict": ("max_output_tokens", "max_tokens"),
    "prompt": ("messages", "input"),
    "reasoning_effort": ("reasoning", "output_config", "think"),
    "repetition_penalty": ("repeat_penalty",),
    "response_format": ("text", "output_config", "format"),
    "stop": ("stop_sequences",),
    "stop_sequences": ("stop",),
    "system": ("instructions", "messages"),
    "think": ("reasoning", "thinking"),
    "top_n_tokens": ("top_logprobs",),
}


def suggestion(name: str, known: Collection[str]) -> str:
    """`, did you mean 'top_p'?`, or `.` where no known name is within two edits. Of a short name
    fewer may differ: half of it has to be right."""
    for other in _MEANT.get(name, ()):
        if other in known:
            return f", did you mean '{other}'?"
    if len(name) > 40 or not known:
        return "."
    if begun := _begun_by(name, known):
        return f", did you mean '{begun}'?"
    distance, closest = min((edit_distance(name, other), other) for other in known)
    return f", did you mean '{closest}'?" if distance <= min(2, len(name) // 2) else "."


def _begun_by(name: str, known: Collection[str]) -> str:
    """The one known name that it is or begins, but for underscores and capitals: `nump`, `topK`."""
    sent = _letters(name)
    same = [other for other in known if _letters(other) == sent]
    begun = [other for other in known if len(sent) > 3 and _letters(other).startswith(sent)]
    return next((found[0] for found in (same, begun) if len(found) == 1), "")


def _letters(name: str) -> str:
    return name.replace("_", "").lower()


def edit_distance(a: str, b: str) -> int:
    """Levenshtein: the fewest insertions, deletions and substitutions that turn a into b."""
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        previous, row = row, [i]
        for j, other in enumerate(b, 1):
            substituted = previous[j - 1] + (char != other)
            row.append(min(previous[j] + 1, row[-1] + 1, substituted))
    return row[-1]
