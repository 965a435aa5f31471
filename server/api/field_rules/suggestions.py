"""What an unknown field was probably meant to be."""

from collections.abc import Collection

# Names that are near to none of ours -> what to use here, the first that is a field there.
_MEANT: dict[str, tuple[str, ...]] = {
    "max_length": ("max_tokens", "num_predict"),
    "max_tokens": ("num_predict",),
    "n_predict": ("num_predict",),
    "repetition_penalty": ("repeat_penalty",),
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
    distance, closest = min((edit_distance(name, other), other) for other in known)
    return f", did you mean '{closest}'?" if distance <= min(2, len(name) // 2) else "."


def edit_distance(a: str, b: str) -> int:
    """Levenshtein: the fewest insertions, deletions and substitutions that turn a into b."""
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        previous, row = row, [i]
        for j, other in enumerate(b, 1):
            substituted = previous[j - 1] + (char != other)
            row.append(min(previous[j] + 1, row[-1] + 1, substituted))
    return row[-1]
