"""New trusted rows: by a person with a reason, from rows the version never saw, the old ones kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.core.dataset import Dataset
from tasks.core.errors import PromotionRefused, RegistryError, SpecError
from tasks.core.model.bundle import digest_of
from tasks.renewal import renew_anchor, renewed
from tasks.run_state import sentence_of
from tasks.settings import Settings
from tasks.store import anchors
from tasks.store.engine import open_store
from tests.make import make_frame, make_spec
from tests.versions import CUT, LATER, SMALL, WINDOW, Made, a_version, moved

SPEC_ = make_spec(estimator=SMALL, gate={"min_rows": 20, "anchor": {"rows": 40}})


def renew(
    place: Settings, version: int | None = None, *, spec=SPEC_, actor: str = "ann", reason: str = "new"
):
    return renew_anchor.fn(spec, version, actor=actor, reason=reason, as_of=LATER, settings=place)


def test_the_champions_unseen_rows_become_the_trusted_ones_on_record(made: Made, place: Settings) -> None:
    moved(a_version(made, place), place)
    made_now = renew(place, reason="the world has changed")
    assert (made_now.rows, made_now.revision, made_now.fixed_by_version) == (40, 1, 1)
    rows = pd.read_parquet(made_now.path)
    assert rows["event_time"].min() >= pd.Timestamp(CUT)
    assert set(rows["event_id"]) <= set(made.frame["event_id"])
    (row,) = anchors.history(open_store(place), "churn")
    assert (row.actor, row.reason, row.version) == ("ann", "the world has changed", 1)
    assert sentence_of(renewed(SPEC_, made_now)) == "churn: 40 rows that version 1 has not learnt from"


def test_a_second_renewal_keeps_the_first_and_the_newest_counts(made: Made, place: Settings) -> None:
    moved(a_version(made, place), place)
    first = renew(place)
    moved(a_version(made, place, "a2"), place, "d2")
    smaller = make_spec(estimator=SMALL, gate={"min_rows": 20, "anchor": {"rows": 30}})
    second = renew(place, spec=smaller)
    assert (second.revision, second.rows, second.fixed_by_version) == (2, 30, 2)
    assert [row.sha256 for row in anchors.history(open_store(place), "churn")] == [
        first.sha256,
        second.sha256,
    ]
    current = anchors.current(open_store(place), "churn")
    assert current is not None
    assert current.sha256 == second.sha256
    assert renew(place, spec=smaller).revision == 2, "the same act again is no second one"


@pytest.mark.parametrize("missing", ["actor", "reason"])
def test_nobody_renews_without_a_name_and_a_reason(made: Made, place: Settings, missing: str) -> None:
    moved(a_version(made, place), place)
    with pytest.raises(SpecError, match=missing):
        renew(place, **{missing: " "})
    assert anchors.history(open_store(place), "churn") == []


def test_what_cannot_be_frozen_is_refused_and_what_stands_stays(made: Made, place: Settings) -> None:
    with pytest.raises(PromotionRefused, match="no champion"):
        renew(place)
    moved(a_version(made, place), place)
    standing = renew(place)
    with pytest.raises(PromotionRefused, match=r"gate\.anchor\.rows: 0"):
        renew(place, spec=make_spec(estimator=SMALL, gate={"anchor": {"rows": 0}}))
    with pytest.raises(PromotionRefused, match="makes no anchor"):  # 60 unseen rows, 100 are asked for
        renew(place, spec=make_spec(estimator=SMALL, gate={"anchor": {"rows": 100}}))
    with pytest.raises(RegistryError):
        renew(place, 7)
    current = anchors.current(open_store(place), "churn")
    assert current is not None
    assert current.sha256 == standing.sha256


def registered(made: Made, place: Settings, frame: pd.DataFrame, folder: Path, **over: Any) -> int:
    """Register a version that was trained on rows of its own; return its number."""
    name = str(over.get("attempt", "own"))
    path = folder / f"{name}.parquet"
    frame.to_parquet(path, index=False)
    kept = Dataset(str(path), len(frame), digest_of(path.read_bytes()), WINDOW)
    trained = replace(made.trained, cut=over.pop("cut", CUT))
    return a_version(made, place, name, snapshot=kept, trained=trained).number


def test_rows_that_the_champion_has_learnt_since_are_not_frozen(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    early = a_version(made, place).number
    late = a_version(made, place, "a2", trained=replace(made.trained, cut=CUT + timedelta(days=3)))
    moved(late, place)
    found = renew(place, early)
    assert (found.fixed_by_version, found.rows) == (early, 32)  # six days of ten rows, less the first three
    rows = pd.read_parquet(found.path)
    assert rows["event_time"].min() >= pd.Timestamp(CUT + timedelta(days=3))
    last = a_version(made, place, "a3", trained=replace(made.trained, cut=CUT + timedelta(days=5)))
    moved(last, place, "d2", expected=late.number)
    with pytest.raises(
        PromotionRefused, match=r"fewer than gate.min_rows \(20\) since .*version 3 has learnt"
    ):
        renew(place, early)
    with pytest.raises(PromotionRefused, match="fewer than gate"):
        renew(place)
    current = anchors.current(open_store(place), "churn")
    assert current is not None and current.sha256 == found.sha256


def test_a_version_that_never_served_gives_rows_with_the_columns_added_since(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    moved(a_version(made, place), place)
    standing = renew(place)
    wider = make_spec(
        estimator=SMALL, gate={"min_rows": 20, "anchor": {"rows": 40}, "weight": "amount"}, contract={}
    )
    with pytest.raises(PromotionRefused, match=r"no column amount.*--version N"):
        renew(place, spec=wider)
    number = registered(made, place, made.frame.assign(amount=2.0), tmp_path)
    found = renew(place, number, spec=wider)
    assert (found.fixed_by_version, found.revision) == (number, 2) and found.sha256 != standing.sha256
    assert (pd.read_parquet(found.path)["amount"] == 2.0).all()
    renamed = make_spec(
        estimator=SMALL,
        gate={"min_rows": 20, "anchor": {"rows": 40}},
        label={"column": "gone", "maturity": "2d"},
        contract={},
    )
    with pytest.raises(PromotionRefused, match="without column 'gone'"):
        renew(place, spec=renamed)


def test_what_stood_before_comes_back_on_record(made: Made, place: Settings, tmp_path: Path) -> None:
    moved(a_version(made, place), place)
    first = renew(place)
    other = make_frame(300, seed=5)
    number = registered(made, place, other, tmp_path)
    assert renew(place, number).revision == 2
    again = renew(place, reason="the former ones were right")
    assert (again.revision, again.sha256) == (3, first.sha256)
    assert anchors.history(open_store(place), "churn")[-1].reason == "the former ones were right"
