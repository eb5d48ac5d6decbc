"""Champions compared on the newest labels, and the change of partner that follows from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.dataset import Dataset
from tasks.core.evaluation.comparison import ComparedChampions
from tasks.core.model.bundle import digest_of
from tasks.core.model.pipeline import build_pipeline
from tasks.core.policy.partners import ServingPair
from tasks.core.window import Window
from tasks.decide import record_check
from tasks.second_opinion import compare_on_labels, follow_second_opinion, is_compared
from tasks.settings import Settings
from tasks.store import ledger
from tasks.store.agreed import serving_pair_now
from tasks.store.engine import open_store
from tasks.store.evidence import champion_losses
from tasks.store.models import save_model
from tests.make import make_frame, make_spec
from tests.versions import LATER, SPEC_, Made, a_version, fresh, made, moved, place

__all__ = ["fresh", "made", "place"]

WINDOW = Window(LATER + timedelta(days=7), LATER + timedelta(days=14))
AS_OF = WINDOW.end + timedelta(days=2)


@pytest.fixture
def two(made: Made, place: Settings, tmp_path: Path) -> Settings:
    """Return a place where a sound version 1 served, and a version 2 that learnt wrong labels serves."""
    moved(a_version(made, place, "a1"), place, "d1", as_of=LATER)
    rows = made.frame.head(240)
    model = build_pipeline(SPEC_).fit(rows, 1 - rows["churned"])
    path = tmp_path / "wrong.skops"
    save_model(model, path)
    wrong = replace(made.trained, model_path=str(path))
    moved(a_version(made, place, "a2", trained=wrong), place, "d2", as_of=LATER + timedelta(days=1))
    return place


def labelled(folder: Path, rows: int = 400, **columns: object) -> Dataset:
    frame = make_frame(rows, seed=9, start=WINDOW.start, days=7).assign(**columns)
    path = folder / "window.parquet"
    frame.to_parquet(path, index=False)
    return Dataset(str(path), rows, digest_of(path.read_bytes()), WINDOW, tuple(frame.columns))


def compared(place: Settings, dataset: Dataset) -> ComparedChampions | None:
    return compare_on_labels.fn(SPEC_, WINDOW, dataset, 2, as_of=AS_OF, settings=place)


def test_a_sound_former_champion_gets_half_the_vote_once(two: Settings, tmp_path: Path) -> None:
    found = compared(two, labelled(tmp_path))
    assert found is not None and found.losses is not None
    assert found.opinion.partner == 1
    assert found.outcome == "warn"
    assert found.opinion.losses[1] < found.opinion.losses[2]
    assert not is_compared.fn(SPEC_, WINDOW, 2, as_of=AS_OF, settings=two)
    record_check.fn(SPEC_, "champions", WINDOW, found, version=2, as_of=AS_OF, settings=two)
    assert is_compared.fn(SPEC_, WINDOW, 2, as_of=AS_OF, settings=two)
    assert champion_losses(open_store(two), SPEC_, AS_OF) == [found.losses]
    row = follow_second_opinion.fn(SPEC_, found, 2, as_of=AS_OF, settings=two)
    assert row is not None
    assert (row.action, row.to_version, row.partner) == ("partnered", 2, 1)
    assert serving_pair_now(open_store(two), SPEC_.name) == ServingPair(2, 1)
    again = compared(two, labelled(tmp_path))
    assert follow_second_opinion.fn(SPEC_, again, 2, as_of=AS_OF, settings=two) is None
    assert [row.action for row in ledger.history(open_store(two), SPEC_.name)].count("partnered") == 1


def test_with_second_opinion_off_losses_are_measured_and_nobody_joins(two: Settings, tmp_path: Path) -> None:
    spec = make_spec(estimator=SPEC_.estimator.model_dump(by_alias=True), serving={"second_opinion": "off"})
    found = compare_on_labels.fn(spec, WINDOW, labelled(tmp_path), 2, as_of=AS_OF, settings=two)
    assert found is not None and found.losses is not None
    assert len(found.losses.losses) == 2
    assert follow_second_opinion.fn(spec, found, 2, as_of=AS_OF, settings=two) is None


def test_a_window_that_the_champion_has_learnt_or_without_labels_compares_nothing(
    two: Settings, tmp_path: Path
) -> None:
    early = Window(WINDOW.start - timedelta(days=28), WINDOW.start - timedelta(days=21))
    assert compare_on_labels.fn(SPEC_, early, labelled(tmp_path), 2, as_of=AS_OF, settings=two) is None
    assert compared(two, labelled(tmp_path, churned=pd.NA)) is None


def test_too_few_labels_change_nothing(two: Settings, tmp_path: Path) -> None:
    few = compared(two, labelled(tmp_path, rows=20))
    assert few is not None
    assert (few.outcome, few.losses) == ("undecided", None)
    assert follow_second_opinion.fn(SPEC_, few, 2, as_of=AS_OF, settings=two) is None


def test_another_champion_meanwhile_is_not_given_this_ones_partner(
    made: Made, two: Settings, tmp_path: Path
) -> None:
    found = compared(two, labelled(tmp_path))
    moved(a_version(made, two, "a3"), two, "d3", as_of=AS_OF)
    assert follow_second_opinion.fn(SPEC_, found, 2, as_of=AS_OF, settings=two) is None
    assert serving_pair_now(open_store(two), SPEC_.name) == ServingPair(3, None)
