"""docs/api.md says of every field what the schemas say."""

from tests.api.requests import field_table, rule_table


def test_the_page_has_every_field_with_its_range_and_default() -> None:
    """If it fails: `python -m tests.api.requests.field_table`, and say what a new field does."""
    page = field_table.written()
    assert list(page) == field_table.rows()
    assert [row[0] for row, text in page.items() if text in ("", "?")] == []


def test_the_page_says_what_is_done_with_each_field_of_each_dialect() -> None:
    """If it fails: `python -m tests.api.requests.rule_table`."""
    assert rule_table.written() == "".join(rule_table.lines())
