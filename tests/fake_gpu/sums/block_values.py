"""What a block of PTX computes, value by value: by which instructions, of which values.

A block has no branch in it, so each value is an instruction and the values that it reads. Two
blocks whose values are the same add up in the same order and round at the same places, whatever
their registers are called and however the compiler has mixed their instructions.

What changes no bit is left out: the order in which a maximum is found, which of two factors stands
first, what decides whether a score is seen (it is minus infinity, or itself), and in which row of
a tile a value lies, since the tensor cores treat all alike. Of what is read from shared memory the
offset counts, and not how a thread finds its own place: compilers find several ways to say that.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from hashlib import blake2b

INSTRUCTION = re.compile(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)\s+([^;]*);")
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^\s,{}\[\]]+")
PART = re.compile(r"%\w+|-?\w+")  # of an address, or of several in braces
REGISTER = re.compile(r"%\w+")
NO_DESTINATION = ("st.", "stmatrix", "cp.async", "bar.", "bra", "griddepcontrol")
COMMUTATIVE = ("mul.f32", "add.f32", "mul.rn.f32", "add.rn.f32")
MAXIMUM, OWN, CARRIED = "a maximum", "its own", "carried"
IS_FLOAT = re.compile(r"stored|masked|either|\S*\.b?f(16|32)")


def blocks_of(ptx: str) -> list[str]:
    """The blocks of its only function, in order."""
    return re.split(r"^\$L__BB\w+:.*$", ptx.partition(".section")[0], flags=re.MULTILINE)


def instructions(block: str) -> Iterator[tuple[str, list[str]]]:
    """Operation and operands; several in braces are one, and so is an address."""
    for line in block.splitlines():
        found = INSTRUCTION.match(line.partition("//")[0])
        if found:
            yield found[1], OPERAND.findall(found[2])


def written(operation: str, operands: list[str]) -> list[str]:
    """The registers that an instruction writes."""
    if operation.startswith(NO_DESTINATION) or not operands:
        return []
    return REGISTER.findall(operands[0])


class Values:
    """Of one block among those of a function."""

    def __init__(self, ptx: str, block: str) -> None:
        self._definitions: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
        for operation, operands in instructions(ptx):
            for register in written(operation, operands):
                self._definitions[register].append((operation, operands))
        self._here = {r for op, operands in instructions(block) for r in written(op, operands)}
        self._now: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._read_first: set[str] = set()
        self._last_stored = ""
        self.stored: set[str] = set()
        for operation, operands in instructions(block):
            self._do(operation, operands)

    @property
    def results(self) -> set[str]:
        """What goes to other threads, or round the loop."""
        carried = {self._now[r] for r in self._read_first & self._now.keys()}
        return {value for value in carried | self.stored if IS_FLOAT.match(value)}

    def _do(self, operation: str, operands: list[str]) -> None:
        if operation.startswith("stmatrix"):
            values = [self._of(name) for name in REGISTER.findall(operands[1])]
            self.stored |= {made("stored", str(i // 2), v) for i, v in enumerate(values)}
        elif operation.startswith("st.shared"):
            (name,) = REGISTER.findall(operands[1]) or [""]
            self._last_stored = self._of(name)
            self.stored.add(self._last_stored)
        elif operation.startswith("mma"):
            self._multiply(operation, operands)
        else:
            destinations = written(operation, operands)
            values = [self._value(operation, operands[1:], i) for i in range(len(destinations))]
            self._now.update(zip(destinations, values, strict=True))

    def _multiply(self, operation: str, operands: list[str]) -> None:
        """Of 16 rows, 8 of which are in the first half of a thread's registers."""
        into, left, right, before = map(REGISTER.findall, operands)
        a, b = [of_any_row(self._of(name)) for name in left], [self._of(name) for name in right]
        c = [self._of(name) for name in before]
        for i, register in enumerate(into):
            half, column = divmod(i, 2)
            value = made(operation, a[half], a[half + 2], *b, str(column), c[i])
            self._now[register] = value

    def _of(self, name: str) -> str:
        """The value of a register, a number or an address, now."""
        if name.startswith(("[", "{")):
            return made("at", *(self._of(part) for part in PART.findall(name[1:-1])))
        if not name.startswith("%") or name.startswith(("%tid", "%ctaid", "%nctaid")):
            return name
        if name in self._now:
            return self._now[name]
        if name in self._here:
            self._read_first.add(name)
            return CARRIED
        return self._from_outside(name)

    def _from_outside(self, name: str) -> str:
        """On whatever way the block was come to, or else a value of the function's own."""
        if name not in self._known:
            self._known[name] = OWN  # of a loop that leads back to it
            found = {
                self._value(operation, operands[1:], written(operation, operands).index(name))
                for operation, operands in self._definitions[name]
            }
            self._known[name] = found.pop() if len(found) == 1 else OWN
        return self._known[name]

    def _value(self, operation: str, sources: list[str], index: int) -> str:
        """Of an instruction's destination."""
        if operation.startswith("max.f32"):
            return MAXIMUM
        if operation.startswith("ld.global"):
            return OWN
        if operation.startswith("ld.shared"):
            stored = self._last_stored
            return f"shared {stored if stored == MAXIMUM else stored.partition(' ')[0]}"
        values = [self._of(source) for source in sources]
        if operation.startswith("mov.") and len(values) == 1 and sources[0][0] != "{":
            return values[0]
        if operation.startswith("ldmatrix"):
            offset = sources[0].strip("[] ").partition("+")[2].strip() or "0"
            return f"tile {operation} {offset} {index}"
        if operation == "selp.f32":
            return masked(*values[:2])
        if operation in COMMUTATIVE:
            values.sort()
        if operation.startswith("fma"):
            values[:2] = sorted(values[:2])
        return made(operation, *values)


def masked(left: str, right: str) -> str:
    """One of them, of which one may be a number, once or several times."""
    numbers = [value for value in (left, right) if value.startswith("0f")]
    others = [value for value in (left, right) if not value.startswith("0f")]
    if not others:
        return "a number"
    if numbers:
        return others[0] if others[0].startswith("masked") else made("masked", others[0])
    return made("either", left, right)


def of_any_row(value: str) -> str:
    """Of a tile of 16 rows: whether the first or the last 8 inputs."""
    if not value.startswith("tile "):
        return value
    tile, _, index = value.rpartition(" ")
    return f"{tile} {int(index) // 2}"


def made(operation: str, *values: str) -> str:
    """The operation, readable, and a hash of all that it is made of."""
    text = "\n".join((operation, *values))
    return f"{operation} {blake2b(text.encode(), digest_size=8).hexdigest()}"
