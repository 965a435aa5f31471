"""A grammar that is not made, and why."""


class ConstraintError(ValueError):
    """A grammar that cannot be made. `rule` completes a sentence that begins with the field's name;
    `path` says where in a schema (`$.properties.age.minimum`), and is empty for the others."""

    def __init__(self, rule: str, path: str = "") -> None:
        super().__init__(f"{path} {rule}" if path else rule)
        self.rule = rule
        self.path = path


def check_size(text: str, limit: int) -> None:
    size = len(text.encode(errors="replace"))
    if size > limit:
        raise ConstraintError(f"must be at most {limit} bytes long, got {size}.")
