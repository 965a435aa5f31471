"""docs/api.md says of every field what the schemas say."""

import re

from tests.api.requests import field_table, rule_table
from thirdeye.server.api.openapi.descriptions import descriptions_of


def test_the_page_has_every_field_with_its_range_and_default() -> None:
    """If it fails: `python -m tests.api.requests.field_table`, and say what a new field does."""
    page = field_table.written()
    assert list(page) == field_table.rows()
    assert [row[0] for row, text in page.items() if text in ("", "?")] == []


def test_the_document_says_of_a_field_what_the_page_says() -> None:
    """Less the links, which a line of the OpenAPI document cannot have."""
    for (field, routes, _, _), text in field_table.written().items():
        words = re.sub(r": \[[^\]]+\]\([^)]*\)", "", text).replace("`", "'")
        for route in routes.split(", "):
            assert descriptions_of(field_table.ROUTES[route])[field] == words


def test_the_page_says_what_is_done_with_each_field_of_each_dialect() -> None:
    """If it fails: `python -m tests.api.requests.rule_table`."""
    assert rule_table.written() == "".join(rule_table.lines())
