from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from tasks.core.data import checks
from tasks.core.data.contract import build_schema, check_frame
from tasks.core.errors import ContractError, SpecError
from tests.make import make_frame, make_spec

Own = Callable[[Callable[..., Any]], str]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Put a function into a module of one's own and return its import string."""
    module = types.ModuleType("my_rules")
    monkeypatch.setitem(sys.modules, "my_rules", module)

    def put(function: Callable[..., Any]) -> str:
        module.rule = function  # type: ignore[attr-defined]
        return "my_rules:rule"

    yield put


def spec_with(*names: str) -> Any:
    return make_spec(contract={"checks": list(names), "max_bad_share": 1})


def test_a_check_of_ones_own_is_found_by_import_string(own: Own) -> None:
    name = own(lambda frame, spec: frame["tenure"] <= frame["spend"])
    frame = make_frame(100)
    checked = check_frame(frame, spec_with(name))
    broken = frame["tenure"] > frame["spend"]
    assert 0 < broken.sum() < 100
    assert checked.report.reasons == {"my_rules:rule:check_failed": int(broken.sum())}
    assert checked.bad["event_id"].tolist() == frame.loc[broken, "event_id"].tolist()
    assert checks.find_check("my_rules.rule") is checks.find_check("my_rules:rule")


def test_a_registered_check_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_REGISTRY", dict(checks._REGISTRY))

    @checks.register_check("spend_is_small")
    def small(frame: pd.DataFrame, spec: Any) -> pd.Series:
        return frame["spend"] < 20

    report = check_frame(make_frame(100), spec_with("spend_is_small")).report
    assert report.reasons == {"spend_is_small:check_failed": int((make_frame(100)["spend"] >= 20).sum())}
    with pytest.raises(SpecError, match="'spend_is_small' registered twice"):
        checks.register_check("spend_is_small")(lambda frame, spec: frame["spend"] < 0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("some_feature_knwon", "did you mean 'some_feature_known'"),
        ("zzz", "module:function"),
        ("no_such_module:rule", "ModuleNotFoundError"),
        ("tasks.core.data.checks:nothing", "AttributeError"),
        ("tasks.core.data.contract_report:MAX_EXAMPLES", "no function"),
        (":rule", "module:function"),
    ],
)
def test_a_check_that_does_not_exist_is_refused_with_a_hint(name: str, says: str) -> None:
    for use in (build_schema, lambda spec: check_frame(make_frame(5), spec)):
        with pytest.raises(SpecError) as caught:
            use(spec_with(name))
        assert says in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        lambda frame, spec: True,
        lambda frame, spec: frame["tenure"],
        lambda frame, spec: [True],
        lambda frame, spec: frame,
        lambda frame, spec: ["yes"] * len(frame),
    ],
)
def test_a_check_that_gives_no_boolean_per_row_is_an_error(own: Own, answer: Callable[..., Any]) -> None:
    with pytest.raises(ContractError, match="gave no boolean per row"):
        check_frame(make_frame(10), spec_with(own(answer)))


def test_a_check_that_breaks_is_an_error_without_row_values(own: Own) -> None:
    def breaks(frame: pd.DataFrame, spec: Any) -> pd.Series:
        raise ValueError(f"odd value {frame['event_id'].iloc[0]}")

    with pytest.raises(ContractError, match="raised ValueError") as caught:
        check_frame(make_frame(10), spec_with(own(breaks)))
    assert "e0-0" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ContractError, match="raised KeyError"):
        check_frame(make_frame(10), spec_with(own(lambda frame, spec: frame["typo"] > 0)))


def test_no_answer_counts_as_broken(own: Own) -> None:
    answers = pd.Series([None, pd.NA, True, False] + [True] * 6, dtype="object")
    name = own(lambda frame, spec: answers.loc[frame.index])
    assert check_frame(make_frame(10), spec_with(name)).bad.index.tolist() == [0, 1, 3]
    nullable = own(lambda frame, spec: frame["tenure"].astype("Float64").mask(frame.index == 0) > 0)
    assert check_frame(make_frame(10), spec_with(nullable)).bad.index.tolist() == [0]


def test_a_check_against_the_other_rows_is_asked_once(own: Own) -> None:
    # Without the broken rows the mean is another one, and more rows would break.
    name = own(lambda frame, spec: frame["spend"] <= 1.5 * frame["spend"].mean())
    frame = make_frame(200)
    report = check_frame(frame, spec_with(name)).report
    assert report.bad_rows == int((frame["spend"] > 1.5 * frame["spend"].mean()).sum())


def test_a_check_on_the_label_does_not_apply_before_it_is_known(own: Own) -> None:
    name = own(lambda frame, spec: frame["churned"] < 1)
    unlabelled = make_frame(10).drop(columns="churned")
    assert check_frame(unlabelled, spec_with(name), with_label=False).report.outcome == "ok"
    assert check_frame(make_frame(10), spec_with(name)).report.reasons == {
        "my_rules:rule:check_failed": int(make_frame(10)["churned"].sum())
    }


def test_a_check_cannot_change_the_rows(own: Own) -> None:
    def meddles(frame: pd.DataFrame, spec: Any) -> pd.Series:
        frame["tenure"] = -1.0
        return frame["tenure"] < 0

    checked = check_frame(make_frame(10), spec_with(own(meddles)))
    pd.testing.assert_series_equal(checked.good["tenure"], make_frame(10)["tenure"])


def test_checks_are_not_run_on_a_table_that_is_blocked_anyway(own: Own) -> None:
    name = own(lambda frame, spec: 1 / 0)
    report = check_frame(make_frame(10).drop(columns="spend"), spec_with(name)).report
    assert report.structural == ("column 'spend' is missing",)


def test_a_row_written_before_it_happened_is_broken() -> None:
    spec = make_spec(
        source={"url": "a.csv", "key": "event_id", "timestamp": "event_time", "updated": "at"},
        contract={"checks": ["updated_not_before_timestamp"], "max_bad_share": 1},
    )
    frame = make_frame(4)
    frame["at"] = frame["event_time"] + pd.to_timedelta([0, 1, -1, None], unit="h")
    assert check_frame(frame, spec).bad.index.tolist() == [2]
    assert check_frame(make_frame(4), spec_with("updated_not_before_timestamp")).report.outcome == "ok"
