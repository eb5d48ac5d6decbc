"""Reports on parts of a table say together what one report on the whole would."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tasks.core.data.contract import check_frame
from tasks.core.data.contract_merge import merged_report
from tasks.core.data.contract_report import ContractReport
from tests.make import make_frame, make_spec

SPEC = make_spec()


def reports(frame: pd.DataFrame, parts: int) -> list[ContractReport]:
    edges = np.linspace(0, len(frame), parts + 1).astype(int)
    return [
        check_frame(frame.iloc[start:end], SPEC, with_label=False).report for start, end in pairwise(edges)
    ]


@pytest.mark.parametrize("bad", [0, 3, 9, 40])
def test_counts_reasons_and_outcome_are_those_of_the_whole(bad: int) -> None:
    frame = make_frame(1000)
    frame.loc[frame.index[:bad], "spend"] = -1.0
    frame.loc[frame.index[500 : 500 + bad // 3], "plan"] = "gold"
    whole = check_frame(frame, SPEC, with_label=False).report
    merged = merged_report(reports(frame, 4), SPEC)
    assert (merged.rows, merged.bad_rows, merged.outcome) == (whole.rows, whole.bad_rows, whole.outcome)
    assert merged.reasons == whole.reasons
    assert merged.bad_share == pytest.approx(whole.bad_share)


def test_a_part_without_one_good_row_does_not_block_the_rest() -> None:
    frame = make_frame(2000)
    frame.loc[frame.index[1990:], "spend"] = -1.0
    parts = [*reports(frame.iloc[:1990], 1), *reports(frame.iloc[1990:], 1)]
    assert parts[1].outcome == "block"
    merged = merged_report(parts, SPEC)
    assert (merged.outcome, merged.bad_rows, merged.structural) == ("quarantine", 10, ())


def test_a_column_that_changed_its_type_everywhere_blocks_and_is_named() -> None:
    frame = make_frame(400).assign(spend="a lot")
    merged = merged_report(reports(frame, 3), SPEC)
    assert merged.outcome == "block"
    assert any("spend" in text for text in merged.structural)


def test_a_feature_that_is_silent_in_one_part_only_is_no_notice() -> None:
    frame = make_frame(400)
    frame.loc[frame.index[:200], "tenure"] = np.nan
    assert reports(frame, 2)[0].notices
    assert merged_report(reports(frame, 2), SPEC).notices == ()


def test_no_part_is_no_report() -> None:
    with pytest.raises(ValueError, match="no part"):
        merged_report([], SPEC)
