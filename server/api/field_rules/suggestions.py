"""What an unknown field was probably meant to be."""

from collections.abc import Collection

# Names that mean something elsewhere -> what to use here, the first that is a field there. They are
# no misspellings, so where none is, none is suggested.
_MEANT: dict[str, tuple[str, ...]] = {
    "chat_template_kwargs": ("reasoning", "thinking", "think"),
    "context": (),
    "enable_thinking": ("reasoning", "thinking", "think"),
    "image": (),
    "images": (),
    "include": (),
    "input": ("messages", "prompt"),
    "instructions": ("system", "messages"),
    "json_schema": ("format", "text", "output_config"),
    "max_completion_tokens": ("max_output_tokens", "max_tokens", "num_predict"),
    "max_length": ("max_tokens", "max_output_tokens", "num_predict"),
    "max_output_tokens": ("max_completion_tokens", "max_tokens", "num_predict"),
    "max_tokens": ("max_output_tokens", "num_predict"),
    "messages": ("input", "prompt"),
    "min_tokens": (),
    "model_name": ("model",),
    "models": ("model",),
    "n_keep": ("num_keep",),
    "n_predict": ("max_output_tokens", "max_tokens", "num_predict"),
    "num_keep": ("n_keep",),
    "num_predict": ("max_output_tokens", "max_tokens"),
    "prompt": ("messages", "input"),
    "reasoning_effort": ("reasoning", "output_config", "think"),
    "repetition_penalty": ("repeat_penalty",),
    "response_format": ("text", "output_config", "format"),
    "seed": (),
    "speed": (),
    "steps": (),
    "stop": ("stop_sequences",),
    "stop_sequences": ("stop",),
    "store": (),
    "system": ("instructions", "messages"),
    "think": ("reasoning", "thinking"),
    "tools": (),
    "top_a": (),
    "top_n_tokens": ("top_logprobs",),
    "truncate": ("truncate_prompt_tokens",),
    "typ_p": (),
    "user": ("user_id",),
    "user_id": (),
}


def suggestion(name: str, known: Collection[str], options: Collection[str] = ()) -> str:
    """`, did you mean 'top_p'?`, or `.` where there is none. `options` are names that belong into
    an object `options` beside this one."""
    if found := _meant_by(name, known):
        return f", did you mean '{found}'?"
    if found := _meant_by(name, options):
        return f", did you mean 'options.{found}'?"
    return "."


def _meant_by(name: str, known: Collection[str]) -> str:
    """The known name that is meant: the same, one of that meaning, or one within two edits. Of a
    short name fewer may differ: half of it has to be right."""
    if name in known or name in _MEANT:
        return next((each for each in (name, *_MEANT.get(name, ())) if each in known), "")
    if len(name) > 40 or not known:
        return ""
    if begun := _begun_by(name, known):
        return begun
    distance, closest = min((edit_distance(name, other), other) for other in known)
    return closest if distance <= min(2, len(name) // 2) else ""


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
