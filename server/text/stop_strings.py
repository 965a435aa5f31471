"""Stop strings in a stream: found wherever it is cut, never leaked, nothing sent taken back.

The search is Aho and Corasick's (1975): a trie of the stop strings, where each node also knows its
longest proper suffix that is a node again (its `fail` link). One walk over the text, one node at a
time: the node is the longest end of the text that may begin a stop, so its depth *is* the number of
characters to hold back. Each character is looked at once and the cost is linear, whatever the
stops.

The stop that is complete first wins; of several complete at the same character, the longest, so
that no part of any of them is left in the text. This file knows no tokens: it is fed text.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Node:
    depth: int
    next: dict[str, "_Node"] = field(default_factory=dict)
    fail: "_Node | None" = None  # of the root alone: None
    stop: str | None = None  # the longest stop string that ends here


class StopMatcher:
    """Passes text on until a stop string is complete. One matcher reads one answer."""

    def __init__(self, stop: list[str], include: bool) -> None:
        """`include`: whether the stop string itself is part of the text. Stops are not empty."""
        assert all(stop), "an empty stop string ends every answer at once"
        self._include = include
        self._node = self._root = _build(stop)
        # Always self._node.depth characters: the end of the text, not passed on yet.
        self._held = ""

    @property
    def num_held(self) -> int:
        """How many characters at the end of what was fed may still begin a stop string."""
        return len(self._held)

    def feed(self, text: str, *, search: bool = True) -> tuple[str, str | None]:
        """Text that may be sent, and the stop string now complete. After a match the text is over.

        With `search` off a stop may be complete within `text` and does not count, but one that
        begins here and is complete later does: the hold-back goes on.
        """
        whole = self._held + text
        if not self._root.next:
            return whole, None
        for end, char in enumerate(text, len(self._held) + 1):
            self._step(char)
            stop = self._node.stop
            if stop is not None and search:
                self._held = ""
                return whole[: end if self._include else end - len(stop)], stop
        self._leave_leaf()
        sent = len(whole) - self._node.depth
        self._held = whole[sent:]
        return whole[:sent], None

    def flush(self) -> str:
        """What was held back and turned out to be no stop string."""
        held, self._held, self._node = self._held, "", self._root
        return held

    def _step(self, char: str) -> None:
        node: _Node | None = self._node
        while node is not None and char not in node.next:
            node = node.fail
        self._node = self._root if node is None else node.next[char]

    def _leave_leaf(self) -> None:
        """A stop that did not count is no reason to hold text back: keep what may still grow into
        one."""
        while not self._node.next and self._node.fail is not None:
            self._node = self._node.fail


def _build(stop: list[str]) -> _Node:
    """The trie with its fail links: breadth first, so that a node's suffixes are done before it."""
    root = _Node(0)
    for string in stop:
        node = root
        for char in string:
            node = node.next.setdefault(char, _Node(node.depth + 1))
        node.stop = string
    level = list(root.next.values())
    for node in level:
        node.fail = root
    while level:
        for node in level:
            for char, child in node.next.items():
                child.fail = _longest_suffix(node.fail, char, root)
                child.stop = child.stop or child.fail.stop
        level = [child for node in level for child in node.next.values()]
    return root


def _longest_suffix(node: _Node | None, char: str, root: _Node) -> _Node:
    while node is not None and char not in node.next:
        node = node.fail
    return root if node is None else node.next[char]
