"""Scoring logs each row once, with what the champion says of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np

from tasks.core.dataset import Dataset
from tasks.core.model.pipeline import build_pipeline, predict
from tasks.core.window import Window
from tasks.score import score_window
from tasks.settings import Settings
from tasks.store import predictions
from tasks.store.engine import open_store
from tasks.store.models import save_model
from tests.make import START, make_frame, make_spec


def test_every_row_is_logged_once_with_the_models_own_answer(tmp_path: Path, settings: Settings) -> None:
    spec, frame = make_spec(), make_frame(400)
    model = build_pipeline(spec).fit(frame, frame["churned"])
    save_model(model, tmp_path / "model.skops")
    window = Window(START, START + timedelta(days=28))
    frame.to_parquet(tmp_path / "rows.parquet")
    dataset = Dataset(str(tmp_path / "rows.parquet"), len(frame), "", window)
    for _ in range(2):  # a window scored again is not logged again
        scored = score_window.fn(
            spec, dataset, str(tmp_path / "model.skops"), 3, served_at=window.end, settings=settings
        )
        assert (scored.rows, scored.version) == (400, 3)
    logged = predictions.read(open_store(settings), spec.name, window)
    assert len(logged) == 400
    logged = logged.set_index("row_key").loc[frame["event_id"]]
    said = predict(model, frame)
    assert logged["prediction"].tolist() == said.prediction.tolist()
    assert np.array_equal(np.array(logged["score"].tolist()), said.probabilities)
    assert set(logged["version"]) == {3}
