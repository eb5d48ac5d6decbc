"""Stages move forward only, and what was put away comes back by a person or a rollback alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import RegistryError
from tasks.core.policy.stages import STAGES, implied, is_legal, is_onward, path

ALWAYS = {
    (None, "CANDIDATE"),
    ("CANDIDATE", "STAGING"),
    ("CANDIDATE", "ARCHIVED"),
    ("STAGING", "PRODUCTION"),
    ("STAGING", "ARCHIVED"),
    ("PRODUCTION", "ARCHIVED"),
}
PAIRS = [(old, new, by) for old in (None, *STAGES) for new in STAGES for by in ("gate", "person", "rollback")]


@pytest.mark.parametrize(("old", "new", "by"), PAIRS)
def test_every_pair_of_stages_is_legal_or_not_as_the_table_says(old: str, new: str, by: str) -> None:
    brought_back = (old, new) == ("ARCHIVED", "PRODUCTION") and by != "gate"
    assert is_legal(old, new, by) is ((old, new) in ALWAYS or brought_back)


@pytest.mark.parametrize(("old", "new", "by"), PAIRS)
def test_a_path_is_made_of_legal_moves_or_refused_with_both_stages_named(old: str, new: str, by: str) -> None:
    try:
        steps = path(old, new, by, model="churn", version=7)
    except RegistryError as err:
        assert f"version 7 to be moved from {old or 'no stage'} to {new} by the {by}" in str(err)
        assert old != new
        assert not is_legal(old, new, by)
        return
    assert [old, *steps][-1] == new
    for before, after in zip([old, *steps], steps, strict=False):
        assert is_legal(before, after, by)


def test_a_path_takes_no_detour() -> None:
    assert path(None, "ARCHIVED") == ["CANDIDATE", "ARCHIVED"]
    assert path("CANDIDATE", "PRODUCTION") == ["STAGING", "PRODUCTION"]
    assert path("ARCHIVED", "PRODUCTION", "person") == ["PRODUCTION"]
    assert path("PRODUCTION", "PRODUCTION") == []


def test_nothing_stands_before_registration_and_nothing_comes_after_the_archive() -> None:
    assert all(is_onward(None, stage) for stage in STAGES)
    assert not any(is_onward("ARCHIVED", stage) for stage in STAGES)


@pytest.mark.parametrize(
    ("rows", "stages"),
    [
        ([], {1: "CANDIDATE"}),
        ([("kept", 1)], {1: "ARCHIVED"}),
        ([("waiting", 1)], {1: "STAGING"}),
        ([("waiting", 1), ("rejected", 1)], {1: "ARCHIVED"}),
        ([("waiting", 1), ("promoted", 1)], {1: "PRODUCTION"}),
        ([("promoted", 1), ("promoted", 2)], {1: "ARCHIVED", 2: "PRODUCTION"}),
        ([("promoted", 1), ("promoted", 2), ("rolled_back", 1)], {1: "PRODUCTION", 2: "ARCHIVED"}),
        ([("promoted", 1), ("refused", 1)], {1: "PRODUCTION"}),
        ([("promoted", 1), ("skipped", None), ("blocked", None)], {1: "PRODUCTION"}),
    ],
)
def test_a_ledger_implies_the_stage_of_each_of_its_versions(
    rows: list[tuple[str, int | None]], stages: dict[int, str]
) -> None:
    ledger = [SimpleNamespace(action=action, to_version=to, from_version=None) for action, to in rows]
    assert {number: implied(ledger, number) for number in stages} == stages


ACTIONS = st.sampled_from(["promoted", "rolled_back", "kept", "waiting", "refused", "rejected"])


@given(st.lists(st.tuples(ACTIONS, st.integers(1, 5)), max_size=30))
def test_no_ledger_implies_two_versions_in_production(rows: list[tuple[str, int]]) -> None:
    ledger = [SimpleNamespace(action=action, to_version=to, from_version=None) for action, to in rows]
    serving = [number for number in range(1, 6) if implied(ledger, number) == "PRODUCTION"]
    assert len(serving) == any(action in {"promoted", "rolled_back"} for action, _ in rows)
