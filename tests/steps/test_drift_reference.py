from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import reference
from tasks.core.drift.profile import Reference
from tasks.core.drift.rows.joint import sample_blocks
from tasks.core.errors import DriftError
from tasks.core.model.pipeline import build_pipeline
from tasks.core.window import parse_duration
from tasks.drifting.sample import MOST_GROUPS, sample_rows
from tasks.settings import Settings
from tasks.store.models import save_model
from tests.make import START, make_frame, make_spec

profile_reference = reference.profile_reference.fn
SPEC = make_spec(window={"training": "28d", "check": "1d"})


@dataclass(frozen=True)
class Trained:
    model_path: str
    holdout_path: str


@pytest.fixture
def trained(tmp_path) -> Trained:
    frame = make_frame(600, seed=1)
    save_model(build_pipeline(SPEC).fit(frame[SPEC.features.all], frame["churned"]), tmp_path / "model.skops")
    make_frame(900, seed=2).to_parquet(tmp_path / "holdout.parquet")
    return Trained(str(tmp_path / "model.skops"), str(tmp_path / "holdout.parquet"))


def made(trained: Trained, frame: pd.DataFrame, folder: Path) -> Reference:
    frame.to_parquet(folder / "rows.parquet")
    path = profile_reference(SPEC, trained, rows_path=str(folder / "rows.parquet"))
    assert Path(path) == folder / "reference.json"
    return Reference.from_json(Path(path).read_text())


def test_features_come_from_all_rows_scores_from_the_holdout_and_blocks_are_windows(trained, tmp_path):
    found = made(trained, make_frame(2800, seed=3), tmp_path)
    assert found.profile.rows == 2800
    assert found.profile.features["tenure"].rows == 2800
    assert found.profile.features["__score__"].rows == 900
    assert found.history.length == parse_duration("1d")
    assert found.history.starts[0] == START
    assert found.history.rows.tolist() == [100] * 28
    assert found.calibration is not None
    assert len(found.sample) == 2800


def test_rows_in_disorder_give_the_reference_of_rows_in_order(trained, tmp_path):
    frame = make_frame(1400, seed=3)
    ordered = made(trained, frame, tmp_path)
    mixed = made(trained, frame.sample(frac=1, random_state=0), tmp_path)
    assert mixed == ordered
    assert np.array_equal(mixed.sample.codes, ordered.sample.codes)
    assert sample_blocks(mixed).tolist() == (np.arange(1400) // 50).tolist()


def test_rows_without_a_time_are_counted_and_in_no_block(trained, tmp_path):
    frame = make_frame(1400, seed=3)
    frame.loc[frame.index % 14 == 0, "event_time"] = pd.NaT
    found = made(trained, frame, tmp_path)
    assert (found.profile.rows, int(found.history.rows.sum())) == (1400, 1300)
    blocks = sample_blocks(found)
    assert (blocks[:100] == -1).all()
    assert blocks[100:].min() == 0


@pytest.mark.parametrize("without", ["no column", "naive"])
def test_times_that_say_nothing_leave_blocks_of_equal_rows(trained, tmp_path, without):
    frame = make_frame(1500, seed=3)
    naive = frame["event_time"].dt.tz_localize(None)
    frame = frame.drop(columns="event_time") if without == "no column" else frame.assign(event_time=naive)
    found = made(trained, frame, tmp_path)
    assert (found.history.length, found.history.starts) == (None, ())


def test_without_other_rows_the_holdout_is_the_reference(trained):
    found = Reference.from_json(Path(profile_reference(SPEC, trained)).read_text())
    assert found.profile.rows == found.profile.features["__score__"].rows == 900


def test_unreadable_rows_are_named_without_their_folder(trained, tmp_path):
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(DriftError, match=r"no readable Parquet file rows\.parquet") as error:
        profile_reference(SPEC, trained, rows_path=str(tmp_path / "rows.parquet"))
    assert str(tmp_path) not in str(error.value)


def test_the_key_is_asked_for_only_where_a_category_is_sensitive(tmp_path, settings):
    assert reference._mask_key(SPEC, Settings(state_dir=tmp_path / "none")) is None
    assert not (tmp_path / "none").exists()
    features = {"numeric": ["tenure"], "categorical": ["region"], "sensitive": ["region"]}
    key = reference._mask_key(make_spec(features=features, contract={}), settings)
    assert key == reference._mask_key(make_spec(features=features, contract={}), settings)
    assert (settings.root / "mask.key").stat().st_mode & 0o077 == 0


def numbered(rows: int, folder: Path, *, group: int) -> str:
    table = pa.table({"n": np.arange(rows), "other": np.arange(rows) * 2.0})
    pq.write_table(table, folder / "numbers.parquet", row_group_size=group)
    return str(folder / "numbers.parquet")


def test_sampled_rows_are_as_many_as_asked_for_in_order_once_each_and_by_the_seed(tmp_path):
    path = numbered(10_000, tmp_path, group=1500)
    first = sample_rows(path, ["n", "gone"], 400, seed=1)
    assert first.columns.tolist() == ["n"]
    assert len(first) == 400
    assert first["n"].is_monotonic_increasing
    assert first["n"].is_unique
    assert first["n"].mean() == pytest.approx(5000, abs=450)  # 3 standard errors
    assert first.equals(sample_rows(path, ["n"], 400, seed=1))
    assert not first.equals(sample_rows(path, ["n"], 400, seed=2))


def test_a_small_file_is_sampled_whole_and_an_empty_one_too(tmp_path):
    assert sample_rows(numbered(50, tmp_path, group=20), ["n"], 400)["n"].tolist() == list(range(50))
    assert len(sample_rows(numbered(0, tmp_path, group=20), ["n"], 400)) == 0
    assert len(sample_rows(numbered(50, tmp_path, group=20), ["gone"], 400)) == 50


def test_of_many_row_groups_some_evenly_spread_are_read(tmp_path):
    frame = sample_rows(numbered(4000, tmp_path, group=40), ["n"], 5000)
    groups = np.unique(frame["n"] // 40)
    assert len(groups) == MOST_GROUPS
    assert (groups[0], groups[-1]) == (0, 99)
