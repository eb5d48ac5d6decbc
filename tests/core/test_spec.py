from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.core.errors import SpecError
from tasks.core.spec import ModelSpec, parse_spec
from tests.make import make_spec, spec_block

NAMES = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=12).filter(
    lambda name: name not in {"max_bad_share", "checks"}
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
SCALARS = st.one_of(st.text(max_size=8), st.integers(-(2**60), 2**60), NUMBERS, st.booleans())
DURATIONS = st.from_regex(r"[1-9][0-9]{0,3}[smhdw]", fullmatch=True)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    key, at, label, *features = draw(st.lists(NAMES, min_size=5, max_size=9, unique=True))
    cut = draw(st.integers(0, len(features)))
    numeric, categorical = features[:cut], features[cut:]
    rules: dict[str, Any] = {
        name: {"ge": draw(NUMBERS), "nullable": draw(st.booleans())} for name in numeric[:1]
    }
    rules |= {name: {"isin": draw(st.lists(SCALARS, min_size=1, max_size=3))} for name in categorical[:1]}
    least = draw(st.integers(1, 4))
    return {
        "name": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)),
        "source": {"url": "rows.parquet", "key": key, "timestamp": at, "overlap": draw(DURATIONS)},
        "label": {"column": label, "maturity": draw(DURATIONS), "positive": draw(st.none() | SCALARS)},
        "features": {"numeric": numeric, "categorical": categorical, "sensitive": features[:1]},
        "contract": {**rules, "max_bad_share": draw(st.floats(0, 1))},
        "estimator": {"params": draw(st.dictionaries(st.text(min_size=1, max_size=5), SCALARS, max_size=3))},
        "gate": {"margin": draw(st.floats(0, 1)), "floor": draw(st.none() | NUMBERS), "slices": features[:1]},
        "drift": {"windows": [least, least + draw(st.integers(0, 3))]},
        "alerts": {"critical": draw(st.lists(st.text(max_size=5), max_size=2))},
    }


@given(block=blocks())
@settings(max_examples=150, deadline=None)
def test_a_spec_written_as_yaml_and_read_again_is_the_same(block: dict[str, Any]) -> None:
    spec = parse_spec(block)
    text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False)
    again = parse_spec(yaml.safe_load(text))
    assert again == spec
    assert repr(again) == repr(spec)  # == takes True, 1 and 1.0 for one value
    assert parse_spec(ModelSpec.model_validate_json(spec.model_dump_json()).model_dump()) == spec


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"nmae": "x"}, ["nmae: unknown key", "did you mean 'name'", "allowed: name, task, source"]),
        (
            {"source": {"url": "a.csv", "tabel": "t", "key": "k", "timestamp": "t"}},
            ["source.tabel", "'table'", "overlap"],
        ),
        ({"source": {"url": "a.csv", "timestamp": "t"}}, ["source.key: missing"]),
        (
            {"source": {"url": "sqlite:///x.db", "key": "k", "timestamp": "t"}},
            ["source", "needs table or query"],
        ),
        (
            {"source": {"url": "sqlite:///x", "table": "t", "query": "q", "key": "k", "timestamp": "t"}},
            ["not both"],
        ),
        ({"source": "x.csv"}, ["source", "'x.csv'", "url, table, query"]),
        ({"task": "clasification"}, ["task", "'clasification'", "'classification' or 'regression'"]),
        ({"metric": "roc_auk"}, ["roc_auk", "roc_auc"]),
        ({"metric": "neg_root_mean_squared_error"}, ["neg_root_mean_squared_error"]),
        ({"features": {"numeric": "tenure"}}, ["features.numeric", "'tenure'", "list"]),
        ({"features": {}}, ["features", "at least one numeric or categorical feature"]),
        ({"features": {"numeric": ["a", "a"]}}, ["features.numeric", "'a'", "twice"]),
        ({"features": {"numeric": ["a"], "categorical": ["a"]}}, ["'a'", "twice"]),
        (
            {"features": {"numeric": ["tenure", "churned"]}, "contract": {}},
            ["'churned'", "among the features"],
        ),
        ({"features": {"numeric": ["event_id"]}, "contract": {}}, ["'event_id'", "identifies rows"]),
        ({"features": {"numeric": ["event_time"]}, "contract": {}}, ["event_time", "none a feature"]),
        ({"features": {"numeric": ["a"], "sensitive": ["b"]}, "contract": {}}, ["'b'", "not features"]),
        ({"contract": {"spend": {"gee": 0}}}, ["contract.spend.gee: unknown key", "'ge'", "nullable"]),
        ({"contract": {"max_bad_shar": 0.1}}, ["contract.max_bad_shar", "'max_bad_share'", "'0.1'"]),
        (
            {"contract": {"max_bad_share": 1.5}},
            ["contract.max_bad_share", "less than or equal to 1", "'1.5'"],
        ),
        ({"contract": {"max_bad_share": math.nan}}, ["contract.max_bad_share", "'nan'"]),
        ({"contract": {"spned": {"ge": 0}}}, ["'spned'", "did you mean 'spend'"]),
        ({"contract": {"spend": {"ge": math.nan}}}, ["contract.spend.ge", "finite", "'nan'"]),
        (
            {"contract": {"spend": {"ge": 5, "le": 3}}},
            ["contract.spend", "no number satisfies both bounds, 5 and 3"],
        ),
        ({"contract": {"spend": {"gt": 3, "le": 3}}}, ["no number satisfies both bounds"]),
        ({"contract": {"spend": {"isin": ["a"]}}}, ["contract.spend", "text", "numbers"]),
        ({"contract": {"spend": {"dtype": "string"}}}, ["contract.spend", "text", "numbers"]),
        ({"contract": {"plan": {"matches": "("}}}, ["contract.plan", "'('", "no regular expression"]),
        ({"contract": {"plan": {"isin": []}}}, ["contract.plan.isin", "at least 1"]),
        (
            {"contract": {"plan": {"isin": [{}]}}},
            ["contract.plan.isin.0", "text, a finite number or a boolean"],
        ),
        ({"contract": {"plan": {"dtype": "sting"}}}, ["contract.plan.dtype", "'sting'", "'string'"]),
        ({"contract": {"event_time": {"ge": 1}}}, ["contract.event_time", "only nullable"]),
        ({"contract": {"event_id": {"dtype": "integer"}}}, ["contract.event_id", "only matches"]),
        ({"estimator": {"class": "HistGB"}}, ["estimator.class", "'HistGB'", "package.module.Name"]),
        ({"estimator": {"seed": -1}}, ["estimator.seed", "greater than or equal to 0", "'-1'"]),
        ({"window": {"training": "90 days"}}, ["window.training", "'90 days'", "like 90d"]),
        ({"window": {"training": "0d"}}, ["window.training", "'0d'", "longer than nothing"]),
        ({"window": {"training": "7d", "holdout": "7d"}}, ["window", "leaves nothing"]),
        ({"gate": {"confidence": 1}}, ["gate.confidence", "less than 1"]),
        ({"gate": {"floor": math.nan}}, ["gate.floor", "finite", "'nan'"]),
        ({"gate": {"promotion": "yes"}}, ["gate.promotion", "'yes'", "'auto', 'manual' or 'dry_run'"]),
        ({"drift": {"windows": [3, 2]}}, ["drift", "M must not exceed N"]),
        ({"drift": {"windows": [2]}}, ["drift.windows"]),
        ({"retrain": {"cooldown": 12}}, ["retrain.cooldown", "'12'", "string"]),
        ({"name": "a/b"}, ["name", "'a/b'", "letters"]),
        ({"name": 5}, ["name", "'5'", "string"]),
        ({"task": "regression", "metric": "r2"}, ["regression with a classifier"]),
    ],
)
def test_a_mistake_is_answered_with_field_given_and_allowed(over: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(spec_block(**over), where="prefect.yaml models.churn")
    text = str(caught.value)
    assert text.startswith("found prefect.yaml models.churn: ")
    assert [part for part in says if part not in text] == []
    assert text.endswith("to do: correct these fields")
    assert len(text) <= 500


@pytest.mark.parametrize("raw", [None, [], "churn", 3])
def test_a_block_that_is_no_mapping_is_refused(raw: object) -> None:
    with pytest.raises(SpecError, match="the block: Input should have the keys name, task, source"):
        parse_spec(raw)


def test_every_mistake_is_told_and_many_are_counted() -> None:
    with pytest.raises(SpecError, match=r"a: unknown key.*b: unknown key"):
        parse_spec(spec_block(a=1, b=2))
    with pytest.raises(SpecError) as caught:
        parse_spec({f"field{number}": 1 for number in range(20)})
    assert "(+18 more)" in caught.value.found  # twenty unknown keys and four missing ones, six told


@pytest.mark.parametrize(
    "source",
    [
        "postgresql://app:hunter2@db/rows",
        {"url": "postgresql://app:hunter2@db/rows", "key": 1, "timestamp": "t"},
        {"url": ["postgresql://app:hunter2@db/rows"], "key": "k", "timestamp": "t"},
    ],
)
def test_a_password_in_a_url_stays_out_of_message_and_traceback(source: object) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(spec_block(source=source))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


def test_a_spec_cannot_be_changed_once_it_is_made() -> None:
    spec = make_spec()
    with pytest.raises(ValidationError):
        spec.name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        spec.gate.margin = 0.5  # type: ignore[misc]


def test_every_field_is_described_and_has_its_place_in_the_form() -> None:
    def walk(kind: type[Any], path: str) -> list[str]:
        found = []
        for place, (name, info) in enumerate(kind.model_fields.items()):
            extra = info.json_schema_extra or {}
            if not info.description or extra.get("position") != place:
                found.append(f"{path}{name}")
            if isinstance(info.annotation, type) and hasattr(info.annotation, "model_fields"):
                found += walk(info.annotation, f"{path}{name}.")
        return found

    assert walk(ModelSpec, "") == []


def test_columns_of_a_fetch_are_named_once_each() -> None:
    spec = make_spec(
        source={
            "url": "a.csv",
            "key": "event_id",
            "timestamp": "event_time",
            "updated": "at",
            "group": "customer",
        },
        gate={"slices": ["region", "country"]},
    )
    assert spec.columns == [
        "event_id",
        "event_time",
        "at",
        "customer",
        "churned",
        "tenure",
        "spend",
        "plan",
        "region",
        "country",
    ]


def test_a_column_may_be_called_like_an_attribute_of_the_contract() -> None:
    spec = make_spec(
        features={"numeric": ["columns", "copy"]}, contract={"columns": {"ge": 1}, "copy": {"le": 2}}
    )
    assert spec.contract.columns["columns"].ge == 1
    assert spec.contract.columns["copy"].le == 2
