from __future__ import annotations

import json
import math
import pickle
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.config import config_context
from pandera.errors import SchemaError

from tasks.core.data.contract import Checked, build_schema, check_frame
from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec
from tests.make import make_frame, make_spec

SPEC = make_spec()
LENIENT = make_spec(
    contract={"spend": {"ge": 0}, "plan": {"isin": ["basic", "pro", "team"]}, "max_bad_share": 1}
)


def put(frame: pd.DataFrame, column: str, values: dict[int, Any]) -> pd.DataFrame:
    """Return a copy whose column (as object) holds other values at these positions."""
    cells = frame[column].astype(object).tolist()
    for position, value in values.items():
        cells[position] = value
    return frame.assign(**{column: pd.Series(cells, index=frame.index, dtype=object)})


def found(checked: Checked) -> dict[str, int]:
    return checked.report.reasons


def assert_whole(checked: Checked, frame: pd.DataFrame) -> None:
    """No row is lost or doubled between good and bad, and the counts agree."""
    report = checked.report
    assert len(checked.good) + len(checked.bad) == len(frame) == report.rows
    assert report.bad_rows == len(checked.bad)
    assert report.bad_share == pytest.approx(len(checked.bad) / max(len(frame), 1))


def test_rows_that_keep_the_contract_come_back_as_they_were() -> None:
    frame = make_frame(200)
    before = frame.copy(deep=True)
    checked = check_frame(frame, SPEC)
    assert checked.report.outcome == "ok"
    assert checked.report.failures == ()
    assert len(checked.bad) == 0
    pd.testing.assert_frame_equal(checked.good[frame.columns.tolist()], before)
    pd.testing.assert_frame_equal(frame, before)


def test_bad_rows_are_set_aside_counted_and_explained() -> None:
    frame = put(put(make_frame(1000), "spend", {3: -1.0, 5: -2.5}), "plan", {3: "gold", 7: "free"})
    checked = check_frame(frame, SPEC)
    assert_whole(checked, frame)
    assert checked.report.outcome == "quarantine"
    assert found(checked) == {"spend:too_small": 2, "plan:not_allowed": 2}
    assert checked.bad["event_id"].tolist() == frame["event_id"].iloc[[3, 5, 7]].tolist()
    assert checked.bad["reasons"].tolist() == [
        "spend:too_small;plan:not_allowed",
        "spend:too_small",
        "plan:not_allowed",
    ]
    assert checked.report.sentence() == (
        "bad rows quarantined: 1,000 rows, 3 bad (0.3%): spend too_small 2; plan not_allowed 2"
    )


@pytest.mark.parametrize(("bad", "outcome"), [(0, "ok"), (10, "quarantine"), (11, "block")])
def test_only_more_than_the_agreed_share_blocks(bad: int, outcome: str) -> None:
    frame = put(make_frame(1000), "spend", dict.fromkeys(range(bad), -1.0))
    assert check_frame(frame, SPEC).report.outcome == outcome


def test_a_renamed_column_blocks_and_is_named() -> None:
    frame = make_frame(500).rename(columns={"tenure": "tenure_months", "region": "reg"})
    report = check_frame(frame, SPEC).report
    assert report.outcome == "block"
    assert report.renames == {"tenure": "tenure_months", "region": "reg"}
    assert "column 'tenure' is missing (renamed to 'tenure_months'?)" in report.structural
    assert "tenure_months" in report.sentence()


def test_a_column_that_part_of_the_source_lacked_blocks_although_it_stands_in_the_frame() -> None:
    frame = put(make_frame(500), "spend", dict.fromkeys(range(250)))
    columns = [*frame.columns, "spend_usd"]
    report = check_frame(frame, SPEC, missing=["spend"], source_columns=columns).report
    assert report.outcome == "block"
    assert report.structural == ("column 'spend' is missing (renamed to 'spend_usd'?)",)


def test_a_missing_label_matters_only_where_labels_are_asked_for() -> None:
    frame = make_frame(100).drop(columns="churned")
    assert check_frame(frame, SPEC).report.structural == ("column 'churned' is missing",)
    assert check_frame(frame, SPEC, missing=["churned"], with_label=False).report.outcome == "ok"


def test_labels_not_known_yet_travel_on_unchecked() -> None:
    frame = put(make_frame(100), "churned", {0: None, 1: None})
    checked = check_frame(frame, SPEC, with_label=False)
    assert checked.report.outcome == "ok"
    assert checked.good["churned"].isna().sum() == 2
    assert found(check_frame(frame, LENIENT)) == {"churned:missing_value": 2}


def test_an_empty_table_blocks() -> None:
    report = check_frame(make_frame(10).iloc[:0], SPEC).report
    assert (report.outcome, report.structural, report.bad_share) == ("block", ("no rows",), 0.0)
    assert check_frame(pd.DataFrame(), SPEC).report.structural[-1] == "no rows"


def test_one_row_is_judged_like_any_other() -> None:
    frame = make_frame(1)
    assert check_frame(frame, SPEC).report.outcome == "ok"
    report = check_frame(frame.assign(spend=-1.0), SPEC).report
    assert (report.outcome, report.structural) == ("block", ("no row keeps the contract",))


def test_a_feature_without_any_value_blocks_training_and_is_noticed_elsewhere() -> None:
    for empty in (np.nan, None, pd.NA):
        frame = make_frame(100).assign(tenure=empty)
        report = check_frame(frame, SPEC).report
        assert report.structural == ("column 'tenure' has no value in any of 100 rows",)
        seen = check_frame(frame, SPEC, with_label=False)
        assert seen.report.outcome == "ok"
        assert seen.report.notices == ("column 'tenure' has no value in any of 100 rows",)
        assert seen.good["tenure"].dtype == np.float64


def test_infinite_values_are_bad_in_every_kind_of_column() -> None:
    frame = put(
        put(make_frame(500), "tenure", {0: np.inf, 1: -np.inf, 2: "inf", 3: 10**400}), "region", {4: np.inf}
    )
    checked = check_frame(frame, LENIENT)
    assert found(checked) == {"tenure:infinite": 4, "region:infinite": 1}
    assert checked.report.failures[0].examples == ("inf", "-inf", "aaa", "9" * 23 + "…")


@pytest.mark.parametrize(
    "value",
    ["12", " 12 ", "1.2e1", 12, 12.0, np.int8(12), np.float32(12), Decimal("12.0"), b"12"],
)
def test_numbers_convert_where_nothing_is_lost(value: object) -> None:
    frame = put(make_frame(100), "tenure", {0: value})
    checked = check_frame(frame, SPEC)
    assert checked.report.outcome == "ok"
    assert checked.good["tenure"].dtype == np.float64
    assert checked.good["tenure"].iloc[0] == 12.0


@pytest.mark.parametrize(
    "value",
    [
        "twelve",
        "",
        "nan",
        "1_000",
        "1,5",
        "0x1A",
        "1e999",
        1 + 2j,
        [1],
        {"a": 1},
        datetime(2026, 1, 1, tzinfo=UTC),
        "None",
    ],
)
def test_what_is_no_number_is_bad_and_spoils_no_neighbour(value: object) -> None:
    frame = put(make_frame(100), "tenure", {1: value})
    checked = check_frame(frame, LENIENT)
    assert found(checked) == {"tenure:wrong_type": 1}
    assert np.array_equal(checked.good["tenure"], make_frame(100)["tenure"].drop(1))


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, 2, None] * 30, dtype="Int64"),
        pd.Series([1.0, 2.0, None] * 30, dtype="Float32"),
        pd.Series([True, False, None] * 30, dtype="boolean"),
        pd.Series(["1", "2", None] * 30, dtype="string"),
        pd.Series(["1", "2", None] * 30, dtype="category"),
        pd.Series([1, 2, None] * 30, dtype="category"),
        pd.Series([Decimal(1), Decimal(2), None] * 30, dtype=object),
        pd.Series([1, 2, pd.NA] * 30, dtype=object),
        pd.Series([1, 2, None] * 30, dtype="int64[pyarrow]"),
        pd.Series(pd.arrays.SparseArray([1.0, 2.0, np.nan] * 30)),
    ],
    ids=lambda series: str(series.dtype),
)
def test_every_container_of_numbers_becomes_float64_with_its_gaps(values: pd.Series) -> None:
    checked = check_frame(make_frame(90).assign(tenure=values), SPEC)
    assert checked.report.outcome == "ok"
    tenure = checked.good["tenure"]
    assert tenure.dtype == np.float64
    assert tenure.isna().tolist() == [False, False, True] * 30
    assert tenure.iloc[0] == 1.0


def test_a_column_of_another_type_is_a_structural_fault() -> None:
    frame = make_frame(50)
    changes = {
        "text": ("tenure", ["high"] * 50, "found string, expected number"),
        "times": ("tenure", frame["event_time"], "expected number"),
        "a list": ("region", [["a"]] * 50, "expected category"),
        "times in place of a category": ("region", frame["event_time"], "expected category"),
        "numbers in place of times": ("event_time", range(50), "found integer, expected time"),
        "naive times": ("event_time", frame["event_time"].dt.tz_localize(None), "times without a zone"),
        "naive texts": ("event_time", ["2026-01-05T10:00:00"] * 50, "times without a zone"),
    }
    for name, (column, values, says) in changes.items():
        report = check_frame(frame.assign(**{column: values}), SPEC).report
        assert report.outcome == "block", name
        assert column in report.structural[0], name
        assert says in report.structural[0], name


def test_times_with_an_offset_convert_and_others_are_told_apart() -> None:
    frame = put(
        make_frame(100),
        "event_time",
        {
            0: "2026-01-05T10:00:00+02:00",
            1: "2026-01-05 08:00:00Z",
            2: "2026-01-05T10:00:00",
            3: "soon",
            4: 5,
            5: datetime(2026, 1, 5, tzinfo=UTC),
            6: datetime(2026, 1, 5),  # noqa: DTZ001
            7: None,
            8: "9999-01-01T00:00:00Z",
        },
    )
    checked = check_frame(frame, LENIENT)
    assert found(checked) == {
        "event_time:naive_time": 2,
        "event_time:wrong_type": 3,
        "event_time:missing_value": 1,
    }
    assert str(checked.good["event_time"].dtype) == "datetime64[ns, UTC]"
    assert checked.good["event_time"].iloc[:3].tolist() == [
        pd.Timestamp("2026-01-05T08:00Z"),
        pd.Timestamp("2026-01-05T08:00Z"),
        pd.Timestamp("2026-01-05T00:00Z"),
    ]


def test_microsecond_times_of_parquet_become_nanoseconds_and_the_year_9999_is_bad() -> None:
    frame = make_frame(10)
    times = frame["event_time"].dt.as_unit("us")
    checked = check_frame(frame.assign(event_time=times), SPEC)
    pd.testing.assert_series_equal(checked.good["event_time"], frame["event_time"])
    far = pd.Series(np.array(["9999-01-01"] * 10, dtype="datetime64[us]")).dt.tz_localize("UTC")
    assert found(check_frame(frame.assign(event_time=far), LENIENT)) == {"event_time:wrong_type": 10}


def test_of_rows_with_one_key_only_the_newest_is_good() -> None:
    frame = make_frame(100)
    doubled = pd.concat([frame.iloc[[5]].assign(tenure=1.0), frame, frame.iloc[[5]].assign(tenure=2.0)])
    checked = check_frame(doubled, LENIENT)
    assert_whole(checked, doubled)
    assert found(checked) == {"event_id:duplicate_key": 2}
    assert checked.good["event_id"].is_unique
    assert checked.good.loc[checked.good["event_id"] == frame["event_id"][5], "tenure"].tolist() == [2.0]


def test_a_row_written_later_wins_over_its_place() -> None:
    spec = make_spec(
        source={"url": "a.csv", "key": "event_id", "timestamp": "event_time", "updated": "at"},
        contract={"max_bad_share": 1},
    )
    frame = make_frame(3).assign(
        event_id=["a", "a", "b"], at=pd.to_datetime(["2026-03-02", "2026-03-01", None], utc=True)
    )
    checked = check_frame(frame, spec)
    assert checked.good.index.tolist() == [0, 2]
    assert checked.bad["reasons"].tolist() == ["event_id:duplicate_key"]


@pytest.mark.parametrize(
    ("keys", "reasons"),
    [
        ([1, 2, 3, 4], {}),
        ([2**53, 2**53 + 1, 2**63, 2**64], {}),
        ([1.0, 2.0, None, 4.0], {"event_id:missing_value": 1}),
        ([1.5, 2.0, 3.0, 4.0], {"event_id:inexact": 1}),
        ([2.0**53, 2.0**54, 3.0, 4.0], {"event_id:inexact": 2}),
        ([1, "1", "a", "b"], {"event_id:duplicate_key": 1}),
        ([["a"], "b", "c", "d"], {"event_id:wrong_type": 1}),
        (["a", "a", None, None], {"event_id:missing_value": 2, "event_id:duplicate_key": 1}),
    ],
)
def test_keys_identify_rows_or_are_bad(keys: list[Any], reasons: dict[str, int]) -> None:
    frame = make_frame(4).assign(
        event_id=pd.Series(keys, dtype=object if isinstance(keys[0], list) else None)
    )
    assert found(check_frame(frame, LENIENT)) == reasons


def test_whole_numbers_beyond_two_to_the_53_are_refused_where_exactness_was_agreed() -> None:
    values = [
        2**53 - 1,
        2**53,
        2**53 + 1,
        "9007199254740993",
        Decimal(2**60),
        2.0**60,
        1.7,
        "1.0",
        None,
        True,
    ]
    frame = put(make_frame(100), "tenure", dict(enumerate(values)))
    frame["tenure"] = [*frame["tenure"][:10], *range(90)]
    spec = make_spec(contract={"tenure": {"dtype": "integer"}, "max_bad_share": 1})
    checked = check_frame(frame, spec)
    assert found(checked) == {"tenure:not_integer": 1, "tenure:inexact": 5}
    assert checked.bad.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert found(check_frame(frame, LENIENT)) == {}
    unsigned = make_frame(100).assign(tenure=np.full(100, 2**53 + 1, dtype="uint64"))
    assert found(check_frame(unsigned, spec)) == {"tenure:inexact": 100}


def test_booleans_convert_only_from_what_means_true_or_false() -> None:
    cells = [
        True,
        "true",
        "TRUE",
        " False ",
        1,
        0,
        "1",
        "0",
        1.0,
        Decimal(1),
        np.bool_(False),
        None,
        "no",
        "yes",
        2,
        "",
        0.5,
        [1],
    ]
    frame = put(make_frame(100).assign(region=True), "region", dict(enumerate(cells)))
    spec = make_spec(contract={"region": {"dtype": "boolean"}, "max_bad_share": 1})
    checked = check_frame(frame, spec)
    assert found(checked) == {"region:wrong_type": 6}
    assert checked.good["region"].tolist()[:12] == [
        True,
        True,
        True,
        False,
        True,
        False,
        True,
        False,
        True,
        True,
        False,
        None,
    ]
    assert check_frame(make_frame(50).assign(region=[0, 1] * 25), spec).good["region"].dtype == bool


def test_yes_and_no_read_as_booleans_from_yaml_are_explained() -> None:
    spec = make_spec(contract={"region": {"isin": [True, False]}})
    report = check_frame(make_frame(50).assign(region="yes"), spec).report
    assert report.structural[0].endswith("expected boolean (write yes and no in quotes in YAML)")


def test_text_is_not_made_of_numbers() -> None:
    spec = make_spec(contract={"region": {"dtype": "string"}, "max_bad_share": 1})
    assert found(check_frame(put(make_frame(100), "region", {0: 1234, 1: True, 2: None}), spec)) == {
        "region:wrong_type": 2
    }
    assert check_frame(make_frame(100).assign(region=range(100)), spec).report.structural


def test_categories_of_mixed_types_become_one_type_that_can_be_written() -> None:
    cells = [1, "1", 1.0, True, "True", Decimal("1"), 2.5, None]
    checked = check_frame(put(make_frame(100), "region", dict(enumerate(cells))), SPEC)
    assert checked.good["region"].tolist()[:8] == ["1", "1", "1", "True", "True", "1", "2.5", None]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["basic", "pro"] * 20, dtype="category"),
        pd.Series(["basic", "pro"] * 20, dtype="string"),
        pd.Series(["basic", "pro"] * 20, dtype="string[pyarrow]"),
    ],
    ids=lambda series: str(series.dtype),
)
def test_allowed_values_are_found_in_every_container_of_text(values: pd.Series) -> None:
    checked = check_frame(make_frame(40).assign(plan=values), SPEC)
    assert checked.report.outcome == "ok"
    assert checked.good["plan"].tolist() == ["basic", "pro"] * 20
    assert found(
        check_frame(make_frame(40).assign(plan=values.map({"basic": "basic", "pro": "gold"})), LENIENT)
    ) == {"plan:not_allowed": 20}


def test_allowed_numbers_are_the_same_as_text_or_number() -> None:
    spec = make_spec(contract={"plan": {"isin": [1, 2]}, "tenure": {"isin": [1, 2.5]}, "max_bad_share": 1})
    frame = make_frame(6).assign(plan=[1, "1", 2.0, "2", 3, "3"], tenure=[1, 2.5, "1", "2.5", 2, None])
    assert found(check_frame(frame, spec)) == {"tenure:not_allowed": 1, "plan:not_allowed": 2}


def test_bounds_and_patterns_hold_at_their_edges() -> None:
    rules = {"tenure": {"gt": 0, "lt": 10}, "spend": {"ge": 0, "le": 10}, "plan": {"matches": "[a-z]+"}}
    spec = make_spec(contract={**rules, "max_bad_share": 1})
    frame = make_frame(5).assign(
        tenure=[0, 10, 0.1, 9.9, None], spend=[0, 10, -0.1, 10.1, None], plan=["a", "a1", "1a", "A", None]
    )
    assert found(check_frame(frame, spec)) == {
        "tenure:too_small": 1,
        "tenure:too_large": 1,
        "spend:too_small": 1,
        "spend:too_large": 1,
        "plan:no_match": 3,
    }


def test_a_value_may_be_missing_unless_the_rule_says_otherwise() -> None:
    frame = put(make_frame(100), "region", {0: None, 1: np.nan, 2: pd.NA, 3: ""})
    assert check_frame(frame, SPEC).report.outcome == "ok"
    spec = make_spec(contract={"region": {"nullable": False}, "max_bad_share": 1})
    assert found(check_frame(frame, spec)) == {"region:missing_value": 3}


def test_labels_of_two_types_keep_the_commoner_one() -> None:
    frame = put(make_frame(100), "churned", {0: "1", 1: "0"})
    checked = check_frame(frame, LENIENT)
    assert found(checked) == {"churned:wrong_type": 2}
    assert checked.good["churned"].dtype == np.int64
    texts = check_frame(make_frame(100).assign(churned=["yes", "no"] * 50), SPEC)
    assert texts.good["churned"].tolist() == ["yes", "no"] * 50


def test_one_odd_label_does_not_turn_the_others_into_text() -> None:
    checked = check_frame(put(make_frame(100), "churned", {0: [1]}), LENIENT)
    assert checked.good["churned"].dtype == np.int64


def test_a_regression_label_is_a_finite_number() -> None:
    spec = make_spec(
        task="regression",
        metric="r2",
        estimator={"class": "sklearn.linear_model.Ridge"},
        contract={"max_bad_share": 1},
    )
    frame = put(make_frame(100), "churned", {0: "2.5", 1: "x", 2: np.inf, 3: None})
    checked = check_frame(frame, spec)
    assert found(checked) == {"churned:wrong_type": 1, "churned:infinite": 1, "churned:missing_value": 1}
    assert checked.good["churned"].iloc[0] == 2.5


def test_a_column_name_that_stands_twice_blocks() -> None:
    frame = make_frame(20)
    twice = pd.concat([frame, frame[["spend"]]], axis=1)
    assert check_frame(twice, SPEC).report.structural == ("column 'spend' stands more than once",)
    elsewhere = pd.concat([frame, pd.DataFrame({"x": range(20)}), pd.DataFrame({"x": range(20)})], axis=1)
    assert check_frame(elsewhere, SPEC).report.outcome == "ok"


def test_rows_with_one_index_label_are_told_apart() -> None:
    frame = put(make_frame(100), "spend", {3: -1.0}).set_axis([7] * 100)
    checked = check_frame(frame, SPEC)
    assert_whole(checked, frame)
    assert checked.bad["event_id"].tolist() == [frame["event_id"].iloc[3]]
    assert checked.good.index.tolist() == [7] * 99


def test_columns_the_spec_does_not_name_are_left_out() -> None:
    frame = make_frame(20).assign(extra=[object()] * 20)
    assert check_frame(frame, SPEC).good.columns.tolist() == SPEC.columns


def test_rows_that_were_never_stored_need_no_identity() -> None:
    frame = make_frame(5)[["tenure", "spend", "plan", "region"]]
    checked = check_frame(frame, SPEC, with_label=False, identity=False)
    assert checked.report.outcome == "ok"
    request = {"ten": 3, "spend": 1.0, "plan": "basic", "region": "north"}
    report = check_frame(pd.DataFrame([request]), SPEC, with_label=False, identity=False).report
    assert (report.outcome, report.renames) == ("block", {"tenure": "ten"})


def test_a_report_holds_shapes_but_no_values() -> None:
    spec = make_spec(
        features={"numeric": ["tenure", "spend"], "categorical": ["plan", "region"], "sensitive": ["region"]},
        contract={"plan": {"isin": ["basic"]}, "region": {"isin": ["north"]}},
    )
    frame = make_frame(100).assign(plan="gold-7 | <b>", region="Marie Curie")
    report = check_frame(frame, spec).report
    told = json.dumps(asdict(report)) + report.to_markdown() + report.sentence()
    assert [secret for secret in ("gold", "Marie", "Curie", "<b>") if secret in told] == []
    assert [failure.examples for failure in report.failures] == [("aaaa-9 | <a>",), ("text",)]
    assert (
        "| plan | not_allowed: not one of the agreed values | 100 | aaaa-9 \\| &lt;a> |"
        in report.to_markdown()
    )
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301  # our own bytes


def test_examples_are_at_most_five_and_the_report_stays_short() -> None:
    frame = make_frame(1000).assign(plan=["x" * (i % 500) + "é|" * 200 for i in range(1000)])
    report = check_frame(frame, SPEC).report
    assert len(report.failures[0].examples) <= 5
    assert len(json.dumps(asdict(report))) < 2000
    assert len(report.sentence()) < 500


def test_more_faults_than_bits_are_all_told() -> None:
    names = [f"f{number:03d}" for number in range(150)]
    spec = make_spec(
        features={"numeric": names}, contract={**{n: {"ge": 0} for n in names}, "max_bad_share": 1}
    )
    values = np.where(np.eye(150, dtype=bool) | (np.arange(150) % 70 == 0)[:, None], -1.0, 1.0)
    frame = make_frame(150)[["event_id", "event_time", "churned"]].join(pd.DataFrame(values, columns=names))
    reasons = check_frame(frame, spec).bad["reasons"].astype(str).tolist()
    expected = [
        ";".join(f"{n}:too_small" for n, value in zip(names, row, strict=True) if value < 0) for row in values
    ]
    assert reasons == expected


CELLS = st.one_of(
    st.none(),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.sampled_from(["basic", "pro", "-1", "12", "x", "", "nan", "true"]),
    st.decimals(allow_nan=False),
    st.sampled_from([[1], {"a": 1}, b"1", 1j, datetime(2026, 1, 1, tzinfo=UTC), pd.NaT]),
)
RULES = [
    {},
    {"tenure": {"dtype": "integer"}, "plan": {"isin": ["basic", 12]}},
    {"tenure": {"dtype": "boolean"}, "plan": {"dtype": "string", "nullable": False}},
    {"tenure": {"gt": -1, "nullable": False}, "plan": {"dtype": "boolean"}},
    {"tenure": {"isin": [12, 0]}, "plan": {"matches": "[a-z]*"}},
]


@given(
    cells=st.lists(st.tuples(CELLS, CELLS, st.sampled_from("abcdefgh")), min_size=1, max_size=12),
    rules=st.sampled_from(RULES),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_split_loses_no_row_and_the_schema_agrees(
    cells: list[tuple[Any, Any, str]], rules: Any, share: float
) -> None:
    spec = make_spec(
        features={"numeric": ["tenure"], "categorical": ["plan"]}, contract={**rules, "max_bad_share": share}
    )
    columns = [pd.Series(list(part), dtype=object) for part in zip(*cells, strict=True)]
    frame = make_frame(len(cells)).assign(tenure=columns[0], plan=columns[1], event_id=columns[2])
    checked = check_frame(frame, spec, with_label=False)
    assert_whole(checked, frame)
    assert checked.bad["reasons"].notna().all()
    if checked.report.outcome == "ok":
        build_schema(spec, with_label=False).validate(frame)
    if checked.report.bad_rows:
        with pytest.raises(SchemaError):
            build_schema(spec, with_label=False).validate(frame)
    if len(checked.good):
        again = check_frame(checked.good, spec, with_label=False)
        assert again.report.bad_rows == 0
        pd.testing.assert_frame_equal(again.good, checked.good)


def test_the_schema_converts_safely_and_then_checks() -> None:
    schema = build_schema(SPEC)
    good = schema.validate(make_frame(50).astype({"tenure": str}))
    assert good["tenure"].dtype == np.float64
    for bad in (
        {"spend": -1.0},
        {"plan": "gold"},
        {"tenure": "x"},
        {"tenure": math.inf},
        {"event_id": "same"},
    ):
        with pytest.raises(SchemaError):
            schema.validate(make_frame(50).assign(**bad))
    with pytest.raises(SchemaError):
        schema.validate(make_frame(50).drop(columns="spend"))
    assert build_schema(SPEC, with_label=False).validate(make_frame(5).drop(columns="churned")) is not None


def test_bad_rows_are_found_even_with_pandera_switched_off() -> None:
    with config_context(validation_enabled=False):
        assert found(check_frame(put(make_frame(500), "spend", {3: -1.0}), SPEC)) == {"spend:too_small": 1}


def test_a_schema_that_disagrees_about_good_rows_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    other = build_schema(make_spec(contract={"spend": {"le": 0}}))
    monkeypatch.setattr("tasks.core.data.contract._schema", lambda *_: other)
    with pytest.raises(ContractError, match="the schema refuses") as caught:
        check_frame(make_frame(50), SPEC)
    assert caught.value.__cause__ is None  # pandera's own error holds rows


@pytest.mark.timeout(200)  # 1 to 2 s on an idle machine; pandera's lazy mode takes 634
def test_a_million_rows_bad_in_three_columns_are_counted_at_once() -> None:
    rows = 1_000_000
    frame = make_frame(200).iloc[np.arange(rows) % 200].reset_index(drop=True)
    frame = frame.assign(
        event_id=np.arange(rows), tenure=np.inf, spend=-1.0, plan=[f"p{i}" for i in range(rows)]
    )
    checked = check_frame(frame, SPEC)
    assert found(checked) == {"tenure:infinite": rows, "spend:too_small": rows, "plan:not_allowed": rows}
    assert checked.bad["reasons"].memory_usage(deep=True) < 5_000_000


def _spec_with(checks: list[str]) -> ModelSpec:
    return make_spec(contract={"checks": checks, "max_bad_share": 1})


def test_a_cross_column_check_sees_only_rows_that_keep_the_column_rules() -> None:
    spec = make_spec(contract={"spend": {"ge": 0}, "checks": ["some_feature_known"], "max_bad_share": 1})
    frame = make_frame(10)
    empty = ["tenure", "spend", "plan", "region"]
    frame.loc[0, empty] = None
    frame.loc[1, "spend"] = -1.0
    checked = check_frame(frame, spec)
    assert found(checked) == {"spend:too_small": 1, "some_feature_known:check_failed": 1}
    assert checked.bad["reasons"].tolist() == ["some_feature_known:check_failed", "spend:too_small"]
