"""A model block that changed under its champion."""

from __future__ import annotations

import pytest

from tasks.core.spec import parse_spec
from tasks.core.spec_change import SpecChange, as_served, beside, spec_change
from tasks.sources.spelling import roles_of
from tests.make import make_spec

THEN = make_spec()
LESS = make_spec(
    features={"numeric": ["tenure"], "categorical": ["plan", "region"]},
    contract={"plan": {"nullable": False}},
)
MORE = make_spec(
    features={"numeric": ["tenure", "spend", "age"], "categorical": ["plan", "region"]},
    contract={"age": {"ge": 0}, "spend": {"ge": 0}},
)
RENAMED = make_spec(
    features={"numeric": ["tenure", "amount"], "categorical": ["plan", "region"]},
    contract={"amount": {"ge": 0}},
    label={"column": "left", "maturity": "2d"},
)
RETYPED = make_spec(
    features={"numeric": ["tenure"], "categorical": ["plan", "region", "spend"]}, contract={"plan": {}}
)


@pytest.mark.parametrize(
    ("spec", "change"),
    [
        (THEN, SpecChange()),
        (LESS, SpecChange(lost=("spend",))),
        (MORE, SpecChange(added=("age",))),
        (RENAMED, SpecChange(lost=("spend",), added=("amount",), label="churned")),
        (RETYPED, SpecChange(retyped=("spend",))),
    ],
)
def test_what_differs_from_the_champions_block_is_named(spec, change: SpecChange) -> None:
    found = spec_change(spec, THEN)
    assert found == change
    said = found.sentence(3)
    assert all(name in said for name in (*change.lost, *change.added, *change.retyped, change.label))
    assert bool(said) == (not change.is_none)


@pytest.mark.parametrize("spec", [THEN, LESS, MORE, RENAMED, RETYPED])
def test_rows_are_scored_by_the_features_the_champion_looks_at(spec) -> None:
    served = as_served(spec, THEN)
    assert served.features == THEN.features and served.label == spec.label
    assert set(served.contract.columns) <= set(served.columns)
    parse_spec(served.model_dump(mode="json"))  # a valid block
    if spec is LESS:  # its own rules, and the champion's on what it no longer names
        assert served.contract.columns["spend"].ge == 0 and not served.contract.columns["plan"].nullable
        assert served.contract.columns["plan"].isin is None


def test_an_unchanged_block_stays_the_very_same() -> None:
    assert as_served(THEN, make_spec()) is THEN
    assert beside(THEN, THEN).columns == THEN.columns


def test_a_fetch_for_training_brings_the_champions_columns_too_in_their_types() -> None:
    both = beside(LESS, THEN)
    assert both.columns == [*LESS.columns, "spend"] and both.features == LESS.features
    assert roles_of(both)["spend"] == "number" and "spend" not in roles_of(LESS)
    assert both.model_dump() == LESS.model_dump()  # what is stored with a version is the block as written
    assert beside(both, THEN, ["tenure"]).columns == LESS.columns  # the source has no such column any more
    assert beside(both, THEN, both.columns).columns == both.columns
    assert beside(RETYPED, THEN).columns == RETYPED.columns
