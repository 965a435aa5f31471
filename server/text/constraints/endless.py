"""Schemas whose values never end: an object that requires itself, a reference to itself.

A schema ends if some finite value satisfies it, which is a least fixed point: at first no schema is
known to end, and each that needs only such as are known to is one more. What a value needs are the
required properties of its object and the least items of its array; of `anyOf` one branch will do.
What holds of a value by references and `allOf` is taken together. Where in doubt a schema ends:
what is found here is refused, and nothing that can be satisfied may be.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from thirdeye.server.text.constraints.json_schema import Schema, pointed_at, subschemas

_DEFINITIONS = ("$defs", "definitions")
_SCALARS = frozenset({"string", "number", "integer", "boolean", "null"})
_KINDS = _SCALARS | {"array", "object"}
MAX_STEPS = 200_000  # looks at schemas; beyond them nothing is found
MAX_DEPTH = 200  # of references one behind another
Above = frozenset[int]


def endless_path(schema: object) -> str:
    """Where the first schema is whose every value needs another of its own, or ""."""
    return _Endings(schema).first_cycle() if isinstance(schema, dict) else ""


class _Endings:
    """Schemas are known by their `id`: they are all parts of one root, which lives as long."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._paths = {id(node): path for path, node in subschemas(root) if isinstance(node, dict)}
        self._num_steps = 0
        self._ends: set[int] = set()
        self._needs: dict[int, set[int]] = {}  # those that were not known to end
        self._nodes = {id(node): node for node in self._reachable()}
        self._find()

    def first_cycle(self) -> str:
        for key in self._nodes:
            reached, stack = set[int](), [*self._needs[key] - self._ends]
            while stack and key not in self._ends:
                if (needed := stack.pop()) not in reached:
                    reached.add(needed)
                    stack += self._needs[needed] - self._ends
            if key in reached:
                return self._paths.get(key, "$")
        return ""

    def _reachable(self) -> Iterator[Schema]:
        """From the root, by references and by what is no definition."""
        seen, stack = set[int](), [self._root]
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            inner = {name: value for name, value in node.items() if name not in _DEFINITIONS}
            stack += [child for _, child in subschemas(inner) if isinstance(child, dict)][:0:-1]
            target = pointed_at(node.get("$ref"), self._root)
            stack += [target] if isinstance(target, dict) else []

    def _find(self) -> None:
        """Each schema is looked at once, and again when one that it needs turns out to end."""
        waiting: defaultdict[int, set[int]] = defaultdict(set)
        todo = list(self._nodes)
        while todo:
            key = todo.pop()
            if key in self._ends:
                continue
            self._needs[key] = set()
            if self._value_ends(self._nodes[key], frozenset(), (), key):
                self._ends.add(key)
                todo += waiting.pop(key, ())
            for needed in self._needs[key]:
                waiting[needed].add(key)

    def _value_ends(self, node: object, above: Above, others: Sequence[Schema], key: int) -> bool:
        """Whether a value ends of `node` and of `others`, which is asked for the schema `key`.
        `above` are the schemas on whose behalf `node` is looked at: it must not ask for them."""
        parts: dict[int, tuple[Schema, Above]] = {}
        if not self._gather(node, above, parts, key):
            return False
        held = [*others, *(part for part, _ in parts.values())]
        for part, before in parts.values():
            for word in ("anyOf", "oneOf"):
                branches = part.get(word)
                if isinstance(branches, list) and not any(
                    self._value_ends(branch, before, held, key) for branch in branches
                ):
                    return False
        return self._some_kind_ends(held, key)

    def _gather(
        self, node: object, above: Above, parts: dict[int, tuple[Schema, Above]], key: int
    ) -> bool:
        """Into `parts` all that holds of a value of `node`; False if it asks for itself."""
        self._num_steps += 1
        if not isinstance(node, dict):
            return node is not False
        if id(node) in above:
            self._needs[key].add(key)
            return False
        if id(node) in parts or self._is_too_much(above):
            return True
        before = above | {id(node)}
        parts[id(node)] = (node, before)
        together = node.get("allOf")
        inner = [pointed_at(node.get("$ref"), self._root)]
        inner += together if isinstance(together, list) else []
        return all(self._gather(part, before, parts, key) for part in inner)

    def _is_too_much(self, above: Above) -> bool:
        return self._num_steps > MAX_STEPS or len(above) > MAX_DEPTH

    def _some_kind_ends(self, parts: Sequence[Schema], key: int) -> bool:
        kinds = set(_KINDS)
        for part in parts:
            if "const" in part or "enum" in part:
                return True
            kinds &= _kinds_of(part)
        if kinds & _SCALARS:
            return True
        return ("array" in kinds and self._array_ends(parts, key)) or (
            "object" in kinds and self._object_ends(parts, key)
        )

    def _array_ends(self, parts: Sequence[Schema], key: int) -> bool:
        least = max((_count(part, "minItems") for part in parts), default=0)
        longest = max((len(_first_items(part)) for part in parts), default=0)
        return all(
            self._child_ends(_item(part, i), key)
            for i in range(min(least, longest + 1))
            for part in parts
        )

    def _object_ends(self, parts: Sequence[Schema], key: int) -> bool:
        required = [name for part in parts for name in _list(part, "required")]
        if not all(self._property_ends(parts, name, key) for name in required):
            return False
        least = max((_count(part, "minProperties") for part in parts), default=0)
        if least <= len(set(required)):
            return True
        listed = [name for part in parts for name in _object(part, "properties")]
        return any(
            self._property_ends(parts, name, key)
            for name in (*listed, None)
            if name not in required
        )

    def _property_ends(self, parts: Sequence[Schema], name: object, key: int) -> bool:
        """Of a property that the parts list, or without a name of one that they do not."""
        for part in parts:
            listed = _object(part, "properties")
            if name in listed:
                child = listed[name]
            elif "patternProperties" in part:
                continue
            else:
                child = part.get("additionalProperties", True)
            if not self._child_ends(child, key):
                return False
        return True

    def _child_ends(self, child: object, key: int) -> bool:
        if not isinstance(child, dict):
            return child is not False
        if (
            id(child) in self._ends
            or id(child) not in self._nodes
            or self._is_too_much(frozenset())
        ):
            return True
        self._needs[key].add(id(child))
        return False


def _kinds_of(part: Schema) -> frozenset[str]:
    """Whole numbers are numbers: which of both are left does not matter."""
    kind = part.get("type")
    names = {name for name in (kind if isinstance(kind, list) else [kind]) if name in _KINDS}
    if not names:
        return _KINDS
    return frozenset(names | ({"number", "integer"} if names & {"number", "integer"} else set()))


def _count(part: Schema, keyword: str) -> int:
    value = part.get(keyword)
    return value if type(value) is int else 0


def _list(part: Schema, keyword: str) -> list[object]:
    value = part.get(keyword)
    return value if isinstance(value, list) else []


def _object(part: Schema, keyword: str) -> dict[object, object]:
    value = part.get(keyword)
    return dict(value) if isinstance(value, dict) else {}


def _first_items(part: Schema) -> list[object]:
    return _list(part, "prefixItems") or _list(part, "items")


def _item(part: Schema, index: int) -> object:
    first = _first_items(part)
    if index < len(first):
        return first[index]
    return part.get("additionalItems" if isinstance(part.get("items"), list) else "items", True)
