"""What a regular expression may not have here, since no text is looked at twice: look-around and
references back to a group."""

import re

_LOOKS = ("(?=", "(?!", "(?<=", "(?<!")
_PARTS = re.compile(
    r"\\(?:[1-9]|k[<{']|.)|\(\?(?:<?[=!]|P=|>)?|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]", re.DOTALL
)
_BACK = re.compile(r"\\(?:[1-9]|k[<{'])|\(\?P=", re.DOTALL)


def unfollowable_regex(pattern: str) -> str:
    """The rule that it breaks, or ""."""
    for part in _PARTS.findall(pattern):
        if part in _LOOKS:
            return (
                f"must have no look-around, as '{part}' is: describe the text itself, or leave it "
                "out and check the answer."
            )
        if _BACK.fullmatch(part):
            return "must have no reference back to a group: write out what it may be."
    return ""
