"""Tool calls found in a whole answer at once: the parser's slow twin, written from the definition.

A call is an opening tag, white space, `{"name": NAME, "arguments": OBJECT`, and, if they are there,
`}` and the closing tag. Everything else is content, but for white space behind a call that another
call or the end follows, and for a closing frame that the end cut off.
"""

import re
from dataclasses import dataclass

W = r"[ \t\r\n]*"
HEAD = re.compile(
    rf'<tool_call>{W}{{{W}"name"{W}:{W}"([A-Za-z0-9_./-]{{1,128}})"{W},{W}"arguments"{W}:{W}(?={{)'
)
TAIL = re.compile(rf"{W}}}{W}</tool_call>")
CUT_TAIL = re.compile(
    rf"{W}(}}{W}({'|'.join(re.escape('</tool_call>'[:n]) for n in range(1, 12))})?)?\Z"
)
SPACE = re.compile(W)


@dataclass
class Whole:
    content: str
    calls: list[tuple[str, str]]  # name, arguments


def parse_whole(text: str) -> Whole:
    content, calls, at = "", [], 0
    while at < len(text):
        head = HEAD.match(text, at)
        if head is None:
            content += text[at]
            at += 1
            continue
        end = end_of_object(text, head.end())
        calls.append((head.group(1), text[head.end() : end]))
        at = end
        if CUT_TAIL.match(text, at):
            break
        tail = TAIL.match(text, at)
        if tail is not None:
            at = behind_call(text, tail.end())
    return Whole(content, calls)


def behind_call(text: str, at: int) -> int:
    """Past the white space, if a call or the end follows it."""
    end = SPACE.match(text, at).end()
    return end if end == len(text) or HEAD.match(text, end) else at


def end_of_object(text: str, start: int) -> int:
    """Behind the brace that closes the one at `start`; the end of the text if none does."""
    depth = 0
    for part in re.finditer(r'"(?:[^"\\]|\\.)*(?:"|\Z|\\\Z)|[{}]', text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(part.group(), 0)
        if depth == 0:
            return start + part.end()
    return len(text)
