"""The reference of the fields is that of the schema which checks them."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.core.spec import ModelSpec
from tasks.core.spec_reference import spec_reference

PAGE = Path(__file__).parents[2] / "docs" / "spec.md"


def test_the_page_is_that_of_the_schema() -> None:
    assert PAGE.read_text() == spec_reference(), "python -m tasks.core.spec_reference > docs/spec.md"


def test_every_field_of_every_section_has_a_row_and_a_meaning() -> None:
    schema = ModelSpec.model_json_schema()
    fields = [*schema["properties"], *(n for part in schema["$defs"].values() for n in part["properties"])]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?) \| (.*) \|$", spec_reference(), re.M)
    assert sorted(name for name, *_ in rows) == sorted(fields)
    assert [name for name, values, _, meaning in rows if not values.strip() or not meaning.strip()] == []


def test_a_row_says_what_may_stand_in_the_field() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+)$", spec_reference(), re.M))
    assert rows["price"].startswith("number > 0 ≤ 100 | `0.4` |")
    assert rows["max_age"].startswith("duration (`12h`, `7d`, `4w`) or `never` |  |")
    assert rows["name"].startswith("text | **required** |")
