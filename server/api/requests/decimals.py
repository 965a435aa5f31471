"""Numbers that travel as strings, so that JSON's readers do not round them or JSON allows them as
keys: seeds of 63 bits, token ids of a bias. One way to write each, and a pattern that knows it.
"""


def decimal_up_to(largest: int) -> str:
    """A regular expression for 0, 1, … `largest` in decimal, without leading zeros.

    A number is smaller if it is shorter, or if it is smaller at the first digit that differs.
    """
    digits = str(largest)
    options = ["0"]
    options += [f"[1-9][0-9]{{{length - 1}}}" for length in range(1, len(digits))]
    for i, digit in enumerate(digits):
        lowest = "1" if i == 0 else "0"
        if digit > lowest:
            below = f"[{lowest}-{int(digit) - 1}]"
            options.append(f"{digits[:i]}{below}[0-9]{{{len(digits) - 1 - i}}}")
    return "|".join(dict.fromkeys([*options, digits]))
