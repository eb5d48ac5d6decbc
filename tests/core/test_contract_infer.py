from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.data.contract import check_frame
from tasks.core.data.infer import contract_yaml, infer_contract
from tasks.core.errors import ContractError
from tests.make import make_frame, make_spec


def test_a_contract_is_read_with_room_beyond_what_was_seen() -> None:
    frame = make_frame(2000).assign(tenure=np.linspace(10, 30, 2000), spend=np.linspace(-5, 5, 2000))
    contract = infer_contract(frame, make_spec())
    assert contract == {
        "tenure": {"ge": 0, "le": 50, "nullable": False},  # 30 and the range of 20 once more
        "spend": {"ge": -15, "le": 15, "nullable": False},
        "plan": {"dtype": "string", "isin": ["basic", "pro", "team"], "nullable": False},
        "region": {"dtype": "string", "isin": ["east", "north", "south", "west"], "nullable": False},
        "max_bad_share": 0.01,
    }


def test_nulls_are_forbidden_only_after_a_thousand_rows_without_one() -> None:
    assert "nullable" not in infer_contract(make_frame(999), make_spec())["tenure"]
    frame = make_frame(2000)
    frame.loc[7, "tenure"] = None
    assert "nullable" not in infer_contract(frame, make_spec())["tenure"]


def test_values_are_listed_only_when_few_and_each_seen_often() -> None:
    frame = make_frame(300).assign(plan=[f"p{i % 50}" for i in range(300)])
    frame.loc[0, "region"] = "elsewhere"
    contract = infer_contract(frame, make_spec())
    assert contract["plan"] == {"dtype": "string"}
    assert contract["region"] == {"dtype": "string"}


def test_whole_numbers_are_agreed_only_where_the_column_means_it() -> None:
    frame = make_frame(300).assign(tenure=range(300), spend=np.arange(300.0))
    contract = infer_contract(frame, make_spec())
    assert contract["tenure"] == {"ge": 0, "le": 600, "dtype": "integer"}
    assert contract["spend"] == {"ge": 0, "le": 600}


def test_sensitive_values_do_not_enter_a_file() -> None:
    features = {
        "numeric": ["tenure", "spend"],
        "categorical": ["plan", "region"],
        "sensitive": ["region", "tenure"],
    }
    text = contract_yaml(make_frame(2000), make_spec(features=features))
    assert [name for name in ("north", "south", "east", "west") if name in text] == []
    line = next(line for line in text.splitlines() if '"tenure"' in line)
    assert "mostly" not in line


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_too_few_rows_give_no_contract(rows: int) -> None:
    with pytest.raises(ContractError, match="at least 100 rows"):
        infer_contract(make_frame(max(rows, 1)).iloc[:rows], make_spec())


def test_rows_of_the_wrong_types_give_no_contract() -> None:
    with pytest.raises(ContractError, match="column 'tenure' changed its type"):
        infer_contract(make_frame(200).assign(tenure="x"), make_spec())
    with pytest.raises(ContractError, match="column 'spend' is missing"):
        infer_contract(make_frame(200).drop(columns="spend"), make_spec())


def test_a_column_without_values_gets_no_rule() -> None:
    contract = infer_contract(make_frame(200).assign(tenure=np.nan, plan=None), make_spec())
    assert set(contract) == {"spend", "region", "max_bad_share"}
    assert yaml.safe_load(contract_yaml(make_frame(200).assign(tenure=np.nan), make_spec()))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60) | st.none()
CATEGORIES = st.sampled_from(["a", "b b", "", "yes", "null", "é: {x}", "1", "#"]) | st.none()


@given(
    numbers=st.lists(NUMBERS, min_size=1, max_size=8), categories=st.lists(CATEGORIES, min_size=1, max_size=8)
)
@settings(max_examples=25, deadline=None)
def test_the_rows_it_was_read_from_keep_it_even_through_yaml(
    numbers: list[Any], categories: list[Any]
) -> None:
    spec = make_spec(features={"numeric": ["tenure"], "categorical": ["plan"]}, contract={})
    frame = make_frame(100).assign(
        tenure=pd.Series(np.resize(np.array(numbers, dtype=object), 100), dtype=object),
        plan=pd.Series(np.resize(np.array(categories, dtype=object), 100), dtype=object),
    )
    read = yaml.safe_load(contract_yaml(frame, spec))
    assert read == {"contract": infer_contract(frame, spec)}
    inferred = make_spec(features={"numeric": ["tenure"], "categorical": ["plan"]}, **read)
    assert check_frame(frame, inferred, with_label=False).report.bad_rows == 0
