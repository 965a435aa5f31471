"""What an unknown field was probably meant to be."""

from collections.abc import Iterable

# Names that are near to none of ours -> what to use here.
_MEANT: dict[str, str] = {
    "extra_body": "its fields, beside the others",
    "format": "'response_format'",
    "max_length": "'max_tokens'",
    "options": "its fields, beside the others",
    "top_n_tokens": "'top_logprobs'",
}


def suggestion(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'top_p'?`, or nothing when no known name is within two edits."""
    if name in _MEANT:
        return f", did you mean {_MEANT[name]}?"
    if len(name) > 40:
        return "."
    distance, closest = min((edit_distance(name, other), other) for other in known)
    return f", did you mean '{closest}'?" if distance <= 2 else "."


def edit_distance(a: str, b: str) -> int:
    """Levenshtein: the fewest insertions, deletions and substitutions that turn a into b."""
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        previous, row = row, [i]
        for j, other in enumerate(b, 1):
            substituted = previous[j - 1] + (char != other)
            row.append(min(previous[j] + 1, row[-1] + 1, substituted))
    return row[-1]
