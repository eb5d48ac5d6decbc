"""Any spelling of a value, in any type of a source, is one value: keys, labels, categories, numbers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.core.data.contract import check_frame
from tasks.core.data.spelling import number_text
from tasks.core.model.columns import category_text, column_words, in_words
from tasks.core.model.labels import labels_of
from tasks.core.model.pipeline import Categories
from tasks.fetch import fetch_training
from tasks.settings import Settings
from tasks.sources.gathering import Versions, gather
from tasks.sources.shape import shaped
from tasks.sources.spelling import folded
from tasks.validate import validate
from tests.make import START, make_frame, make_spec, spec_block

AS_OF = START + pd.Timedelta(days=30)
SPEC = make_spec()
ROLES = {"event_id": "key", "region": "category", "churned": "label", "spend": "number"}

Write = Callable[[Sequence[int]], pa.Array]
WHOLE: dict[str, Write] = {
    "int64": lambda values: pa.array(values, pa.int64()),
    "int32": lambda values: pa.array(values, pa.int32()),
    "uint64": lambda values: pa.array(values, pa.uint64()),
    "decimal(38,0)": lambda values: pa.array([Decimal(v) for v in values], pa.decimal128(38, 0)),
    "decimal(20,2)": lambda values: pa.array([Decimal(v) for v in values], pa.decimal128(20, 2)),
    "double": lambda values: pa.array([float(v) for v in values]),
    "double with a gap": lambda values: pa.array([*map(float, values), None]),
    "text": lambda values: pa.array([str(v) for v in values]),
    "text with .0": lambda values: pa.array([f"{v}.0" for v in values]),
    "text with .00": lambda values: pa.array([f"{v}.00" for v in values]),
    "char(12)": lambda values: pa.array([str(v).ljust(12) for v in values]),
    "dictionary": lambda values: pa.array([str(v) for v in values]).dictionary_encode(),
    "bytes": lambda values: pa.array([str(v).encode() for v in values]),
    "large text": lambda values: pa.array([str(v) for v in values], pa.large_string()),
}
TRUTHS: dict[str, Write] = {
    "bool": lambda values: pa.array([bool(v) for v in values]),
    "int64": WHOLE["int64"],
    "double": WHOLE["double"],
    "text 0/1": WHOLE["text"],
    "text 0.0/1.0": WHOLE["text with .0"],
    "true": lambda values: pa.array([str(bool(v)).lower() for v in values]),
    "TRUE": lambda values: pa.array([str(bool(v)).upper() for v in values]),
    "True": lambda values: pa.array([str(bool(v)) for v in values]),
    "char(8)": lambda values: pa.array([str(bool(v)).ljust(8) for v in values]),
}


def gathered(column: str, parts: Sequence[pa.Array], spec=SPEC) -> Versions:
    batches = []
    for place, values in enumerate(parts):
        batch = pa.RecordBatch.from_arrays([values], [column])
        batches.append(shaped(batch, [column], (), spec, [column], part=f"part-{place}"))
    return gather(batches, [column], spec)


def values_of(versions: Versions, column: str) -> list[Any]:
    return [value for value in versions.table.column(column).to_pylist() if value is not None]


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.integers(0, 2_000_000_000), min_size=1, max_size=5),
    kinds=st.lists(st.sampled_from(sorted(WHOLE)), min_size=1, max_size=4),
    column=st.sampled_from(sorted(ROLES)),
)
def test_a_whole_number_is_one_value_in_any_spelling_and_type(
    values: list[int], kinds: list[str], column: str
) -> None:
    versions = gathered(column, [WHOLE[kind](values) for kind in kinds])
    assert versions.clashes == ()
    assert versions.table.column(column).type in (pa.int64(), pa.float64(), pa.string())
    got = values_of(versions, column)
    if column == "spend":
        assert [float(value) for value in got] == [float(value) for value in values * len(kinds)]
    else:
        assert [category_text(value) for value in got] == [str(value) for value in values * len(kinds)]


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.integers(2**53, 2**63 - 1), min_size=1, max_size=4),
    kinds=st.lists(
        st.sampled_from(["int64", "uint64", "decimal(38,0)", "text", "text with .0", "char(12)", "bytes"]),
        min_size=1,
        max_size=3,
    ),
    beyond=st.booleans(),
)
def test_keys_of_many_digits_stay_exact(values: list[int], kinds: list[str], beyond: bool) -> None:
    parts = [WHOLE[kind](values) for kind in kinds]
    digits = [2**63 + value for value in values] if beyond else []
    if beyond:
        parts.append(WHOLE["uint64"](digits))
        parts.append(WHOLE["decimal(38,0)"](digits))
    got = values_of(gathered("event_id", parts), "event_id")
    assert [str(value) for value in got] == [str(v) for v in values * len(kinds) + digits * 2]


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.integers(0, 1), min_size=2, max_size=6),
    kinds=st.lists(st.sampled_from(sorted(TRUTHS)), min_size=1, max_size=4),
    column=st.sampled_from(["churned", "region", "spend"]),
)
def test_a_truth_value_is_one_value_in_any_spelling_and_type(
    values: list[int], kinds: list[str], column: str
) -> None:
    versions = gathered(column, [TRUTHS[kind](values) for kind in kinds])
    assert versions.clashes == ()
    frame = versions.table.to_pandas()
    if column == "spend":
        numbers = frame[column].astype(float).tolist()
        assert numbers == [float(value) for value in values * len(kinds)]
        return
    texts = [category_text(value) for value in frame[column]]
    words = column_words(frame[column])
    spelled = [in_words(category_text(value), words) for value in values]
    assert texts == (spelled if words else [str(v) for v in values]) * len(kinds)
    if column == "churned":
        labels = labels_of(frame, SPEC)
        assert labels.dtype.kind in "bi"
        assert labels.astype(int).tolist() == values * len(kinds)


@given(
    text=st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})?(\.[0-9]{0,6})?([eE][+-]?[0-9]{1,2})?\Z")
    | st.text(max_size=6)
)
@example(text=".0:")
def test_arrow_folds_a_number_as_python_does(text: str) -> None:
    assert folded(pa.chunked_array([[text]])).to_pylist() == [number_text(text) or text]


@given(number=st.floats(-(2.0**53), 2.0**53) | st.integers(-(10**20), 10**20))
def test_a_number_and_its_text_are_one_number_text(number: float) -> None:
    text = number_text(str(number))
    assert text is not None
    assert float(text) == float(number)
    assert number_text(text) == text
    assert number_text(category_text(number)) == text


def test_a_code_with_a_leading_zero_stays_as_written() -> None:
    got = gathered("region", [pa.array(["007", "7", "2.0"])])
    assert values_of(got, "region") == ["007", "7", "2.0"]
    both = gathered("region", [pa.array(["007", "A1"]), pa.array([7, 8])])
    assert [name for name, _ in both.clashes] == ["region"]


def test_a_column_declared_text_stays_as_written() -> None:
    spec = make_spec(contract={"region": {"dtype": "string"}})
    assert values_of(gathered("region", [pa.array(["1.0", "1.10"])], spec), "region") == ["1.0", "1.10"]


@pytest.mark.parametrize(
    ("column", "parts"),
    [
        ("churned", [pa.array([True]), pa.array(["yes"])]),
        ("churned", [pa.array([True]), pa.array([2])]),
        ("region", [pa.array([1.5]), pa.array([True])]),
        ("region", [pa.array([1]), pa.array([START])]),
        ("spend", [pa.array([1.5]), pa.array(["cheap"])]),
        ("event_id", [pa.array([1.5]), pa.array(["a"])]),
        ("event_id", [pa.array([2.0**60]), pa.array([2**60 + 1])]),
        ("event_id", [pa.array([7]), pa.array(["007"])]),
        ("region", [pa.array([1]), pa.array([[1]])]),
    ],
)
def test_types_that_cannot_be_one_are_named_with_their_parts(column: str, parts: list[pa.Array]) -> None:
    ((name, text),) = gathered(column, parts).clashes
    assert name == column
    for place, part in enumerate(parts):
        kind = part.type if not pa.types.is_timestamp(part.type) else "timestamp"
        assert f"{kind}" in text
        assert f"part-{place}" in text


def test_a_clash_blocks_the_run(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(40)
    frame.iloc[:20].assign(churned=frame["churned"].iloc[:20] == 1).to_parquet(tmp_path / "a.parquet")
    frame.iloc[20:].assign(churned="yes").to_parquet(tmp_path / "b.parquet")
    spec = spec_at(tmp_path)
    fetched = fetch_training.fn(spec, AS_OF, settings=settings)
    checked = validate.fn(spec, fetched.dataset, settings=settings)
    assert checked.report.outcome == "block"
    assert any("a.parquet" in text and "b.parquet" in text for text in checked.report.structural)
    assert validate.fn(spec, fetched.dataset, with_label=False, settings=settings).report.outcome != "block"


def spec_at(path: Path, **more: Any):
    source = {**spec_block()["source"], "url": str(path)} | more.pop("source", {})
    source.pop("table", None)
    return make_spec(source=source, **more)


@pytest.mark.parametrize("spell", [str, str.upper, "{{{}}}".format, lambda text: text.replace("-", "")])
def test_a_uuid_is_one_key_in_any_spelling(
    spell: Callable[[str], str], tmp_path: Path, settings: Settings
) -> None:
    ids = [uuid.UUID(int=place * 7919 + 2**90) for place in range(30)]
    frame = make_frame(30)
    table = pa.Table.from_pandas(frame.drop(columns="event_id"))
    pq.write_table(table.append_column("event_id", pa.array(ids, pa.uuid())), tmp_path / "a.parquet")
    frame.assign(event_id=[spell(str(each)) for each in ids]).to_parquet(tmp_path / "b.parquet")
    fetched = fetch_training.fn(spec_at(tmp_path), AS_OF, settings=settings)
    rows = pd.read_parquet(fetched.dataset.path)
    assert sorted(rows["event_id"]) == sorted(str(each) for each in ids)
    assert fetched.duplicates == 30


def test_rows_are_told_apart_by_the_key_in_one_spelling(tmp_path: Path, settings: Settings) -> None:
    frame = make_frame(50).assign(event_id=range(1001, 1051))
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.assign(event_id=frame["event_id"].astype(float)).to_csv(tmp_path / "b.csv", index=False)
    frame.assign(event_id=frame["event_id"].astype("uint64")).to_parquet(tmp_path / "c.parquet")
    fetched = fetch_training.fn(spec_at(tmp_path), AS_OF, settings=settings)
    assert (fetched.dataset.rows, fetched.duplicates) == (50, 100)
    assert validate.fn(spec_at(tmp_path), fetched.dataset, settings=settings).dataset.rows == 50


@given(spelling=st.sampled_from([2, 2.0, "2", "2.0", "2.00", "2 ", Decimal("2.0")]))
def test_a_model_fitted_on_numbers_knows_every_spelling_of_them(spelling: object) -> None:
    learnt = Categories().fit(pd.DataFrame({"region": ["1", "2", "3", None]}))
    asked = pd.DataFrame({"region": pd.Series([spelling], dtype=object)})
    assert learnt.transform(asked).tolist() == [["2"]]


def test_classes_that_differ_in_case_or_blanks_are_named() -> None:
    frame = make_frame(100).assign(churned=["yes"] * 60 + ["no"] * 38 + ["Yes", "YES"])
    few = check_frame(frame, make_spec(contract={"max_bad_share": 0.05}))
    assert few.report.reasons == {"churned:near_class": 2}
    assert "'Yes'" in few.report.notices[0]
    assert few.report.outcome == "quarantine"
    frame["churned"] = ["yes", "no", "Yes", "n o"] * 25
    many = check_frame(frame, make_spec(contract={"max_bad_share": 0.05})).report
    assert many.outcome == "block"
    assert all(repr(text) in many.structural[0] for text in ("yes", "Yes", "no", "n o"))
    agreed = make_spec(contract={"churned": {"isin": ["yes", "no", "Yes", "n o"]}})
    assert check_frame(frame, agreed).report.outcome == "ok"


def test_a_column_of_the_models_own_may_be_called_reasons() -> None:
    spec = make_spec(features={"numeric": ["reasons"], "categorical": ["plan"]}, contract={})
    frame = make_frame(10).assign(reasons=5.0)
    frame.loc[0, "reasons"] = float("inf")
    bad = check_frame(frame, spec).bad
    assert bad["reasons"].tolist() == [float("inf")]
    assert bad["reasons_"].tolist() == ["reasons:infinite"]
