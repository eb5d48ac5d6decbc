"""A live row is judged as a row of training is, by field and across fields."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.request import BadRows, Problem, RowChecker
from tasks.core.data.checks import register_check
from tasks.core.data.coerce import coerce
from tasks.core.data.contract import check_frame
from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec
from tests.make import make_frame, make_spec

RULES: dict[str, Any] = {
    "free": {}, "ge": {"ge": 0}, "between": {"gt": -1.5, "lt": 10}, "le": {"le": 3, "nullable": False},
    "whole": {"dtype": "integer"}, "few": {"isin": [1, 2.5, 7]},
    "any": {}, "word": {"isin": ["basic", "1", "True"]}, "code": {"isin": [1, 2, 3]},
    "shape": {"matches": "[a-z]{2}|[0-9]{2}"}, "flag": {"dtype": "boolean"}, "truth": {"isin": [True]},
    "text": {"dtype": "string", "nullable": False}, "level": {"ge": 1, "le": 5}, "rank": {"dtype": "integer"},
}  # fmt: skip
NUMBERS = ["free", "ge", "between", "le", "whole", "few"]
CATEGORIES = [name for name in RULES if name not in NUMBERS]


def ruled(*names: str) -> ModelSpec:
    return make_spec(
        features={
            "numeric": [name for name in NUMBERS if name in names],
            "categorical": [name for name in CATEGORIES if name in names],
        },
        contract={name: RULES[name] for name in names if RULES[name]},
    )


RULED = ruled(*RULES)
ALONE = {name: ruled(name) for name in RULES}
CHECKER = RowChecker(RULED)
GOOD: dict[str, Any] = {
    "free": 1.5, "ge": 0, "between": 9.5, "le": 3, "whole": 4, "few": 2.5, "any": "x", "word": "basic",
    "code": 2, "shape": "ab", "flag": True, "truth": True, "text": "t", "level": 5, "rank": 3,
}  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 12), st.integers(), st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.5, 7.0, 3.0000001, 5e-324, 1.7e308]),
    st.sampled_from([2**53, 2**53 - 1, 2**64, 10**400]), st.text(max_size=5),
    st.sampled_from(["basic", "1", "2", "true", "True", "ab", "12", "abc", "", " ", "é", "0"]),
)  # fmt: skip


def live(row: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        return CHECKER.check([row])[0], []
    except BadRows as err:
        return None, list(err.problems)


def in_training(name: str, value: object) -> pd.DataFrame:
    frame = pd.DataFrame({name: pd.Series([value], dtype=object)})
    return check_frame(frame, ALONE[name], with_label=False, identity=False).good


def is_of_its_type(name: str, value: object) -> bool:
    """Whether JSON would hold the column's values so; quoted numbers, which training reads, are not."""
    if value is None or name in ("any", "word", "code", "shape"):
        whole = isinstance(value, int) and not -(2**63) <= value < 2**63
        return not whole and not (isinstance(value, str) and "\0" in value)
    if name in ("flag", "truth"):
        return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))
    if name == "text":
        return isinstance(value, str) and "\0" not in value
    return isinstance(value, int | float) and not isinstance(value, bool)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(name=st.sampled_from(list(RULES)), value=SCALARS)
def test_a_field_takes_what_training_takes_and_gives_the_model_the_same(name: str, value: Any) -> None:
    found, problems = live({**GOOD, name: value})
    trained = in_training(name, value)
    assert problems == [] or {one.field for one in problems} == {name}
    if found is not None:
        assert len(trained) == 1, "live rows are never looser than training"
        kept, known = trained[name].iloc[0], found[name]
        assert pd.isna(kept) if known is None else kept == known
        assert isinstance(known, bool) == isinstance(kept, bool | np.bool_)
    elif is_of_its_type(name, value):
        assert trained.empty, "and stricter only about JSON's types"


def test_a_good_row_comes_out_in_the_contracts_types() -> None:
    [found] = CHECKER.check([{**GOOD, "event_id": 7, "event_time": "2026-02-01T10:00:00Z"}])
    assert {name: type(found[name]) for name in NUMBERS} == dict.fromkeys(NUMBERS, float)
    assert found["rank"] == 3.0
    assert found["truth"] is True
    assert found["event_id"] == 7
    assert CHECKER.check([GOOD])[0]["event_time"] is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-01T10:00:00+01:00", "2026-02-01 10:00Z", "2026-02-01T10:00:00.123456789Z",
        "1700-01-01T00:00:00Z", "2026-02-30T10:00:00Z", "2026-02-01T10:00:00", "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00", "2026-W05-1T00:00:00Z", "20260201T100000Z", "٢٠٢٦-02-01T10:00:00Z",
        "2026-02-01T10:00:00+25:00", "now", "",
        "2026-02-01T24:00:00Z", "2026-02-01T10:00:00z", "2026-02-01T10:00:00Z\n", 1769940000, True,
    ],
)  # fmt: skip
def test_a_time_is_taken_only_if_training_reads_the_same_moment(text: Any) -> None:
    found, problems = live({**GOOD, "event_time": text})
    read = coerce(pd.Series([text], dtype=object), "time")
    if found is None:
        assert [one.field for one in problems] == ["event_time"]
        return
    assert not read.faulty.any()
    assert read.values.iloc[0].floor("us") == datetime.fromisoformat(found["event_time"]).astimezone(UTC)


def test_most_ways_to_write_a_time_are_taken() -> None:
    for text in ("2026-02-01T10:00:00+01:00", "2026-02-01 10:00Z", "2026-02-01T10:00:00.123456789Z"):
        assert live({**GOOD, "event_time": text})[0] is not None


def test_the_keys_own_rule_holds_for_a_live_key() -> None:
    checker = RowChecker(make_spec(contract={"event_id": {"matches": "e-[0-9]+"}}))
    row = {"tenure": 1, "spend": 2, "plan": "pro", "region": "north"}
    assert checker.check([{**row, "event_id": "e-1"}])[0]["event_id"] == "e-1"
    for wrong in ("x", "e-1 ", 7, True, "a\0", 2**70):
        with pytest.raises(BadRows) as caught:
            checker.check([{**row, "event_id": wrong}])
        assert [one.field for one in caught.value.problems] == ["event_id"]


@register_check("test_spend_below_tenure")
def _spend_below_tenure(frame: pd.DataFrame, spec: ModelSpec) -> pd.Series[bool]:
    del spec
    assert frame["spend"].dtype == np.float64
    return frame["spend"] < frame["tenure"]


@register_check("test_crashes_on_north")
def _crashes_on_north(frame: pd.DataFrame, spec: ModelSpec) -> pd.Series[bool]:
    del spec
    if (frame["region"] == "north").any():
        raise ZeroDivisionError
    return frame["tenure"] > 0


@register_check("test_not_before_2026")
def _not_before_2026(frame: pd.DataFrame, spec: ModelSpec) -> pd.Series[bool]:
    return frame[spec.source.timestamp] >= pd.Timestamp("2026-01-01", tz="UTC")


def rows(*pairs: tuple[float, float, str]) -> list[dict[str, Any]]:
    return [{"tenure": t, "spend": s, "plan": "pro", "region": r} for t, s, r in pairs]


def test_a_check_across_columns_refuses_the_same_rows_as_in_training() -> None:
    spec = make_spec(contract={"checks": ["test_spend_below_tenure"]})
    frame = make_frame(60)
    live_rows = frame[spec.features.all].to_dict("records")
    with pytest.raises(BadRows) as caught:
        RowChecker(spec).check(live_rows[:30])
    good = check_frame(frame.head(30), spec).good
    refused = {one.row for one in caught.value.problems}
    assert refused == set(range(30)) - set(good.index)
    assert 0 < len(refused) < 20
    assert "the check 'test_spend_below_tenure'" in caught.value.problems[0].problem
    kept = [row for at, row in enumerate(live_rows[:30]) if at not in refused]
    assert len(RowChecker(spec).check(kept)) == len(kept)


def test_a_check_that_fails_on_a_row_refuses_this_row_only() -> None:
    checker = RowChecker(make_spec(contract={"checks": ["test_crashes_on_north"]}))
    assert len(checker.check(rows((5, 1, "south"), (6, 1, "east")))) == 2
    with pytest.raises(BadRows) as caught:
        checker.check(rows((5, 1, "south"), (6, 1, "north"), (0, 1, "east")))
    assert [one.row for one in caught.value.problems] == [1, 2]


def test_a_check_on_the_time_applies_where_the_time_is_given() -> None:
    checker = RowChecker(make_spec(contract={"checks": ["test_not_before_2026"]}))
    [row] = rows((5, 1, "south"))
    assert checker.check([row])
    assert checker.check([{**row, "event_time": "2026-01-01T00:00:00Z"}])
    with pytest.raises(BadRows):
        checker.check([{**row, "event_time": "2025-12-31T23:59:59Z"}])


def test_a_check_that_does_not_exist_is_found_when_the_version_is_taken() -> None:
    with pytest.raises(SpecError, match="test_spend_below_tenur"):
        RowChecker(make_spec(contract={"checks": ["test_spend_below_tenur"]}))


def test_what_is_told_of_a_hopeless_request_is_bounded_and_holds_no_value() -> None:
    row = {f"secret_{'x' * 200}_{at}": "hunter2" for at in range(3000)}
    with pytest.raises(BadRows) as caught:
        CHECKER.check([row] * 1000)
    problems = caught.value.problems
    assert 15 <= len(problems) <= 150
    assert max(len(one.field or "") for one in problems) <= 60
    assert "hunter2" not in json.dumps([vars(one) for one in problems])


def test_a_renamed_field_is_hinted_at_on_both_names() -> None:
    checker = RowChecker(make_spec())
    with pytest.raises(BadRows) as caught:
        checker.check([{"tenure": 1, "spend_usd": 3, "plan": "pro", "region": "x"}])
    told = {one.field: one.problem for one in caught.value.problems}
    assert told["spend"].endswith("'spend_usd' looks like it")
    assert told["spend_usd"].endswith("did you mean 'spend'?")
