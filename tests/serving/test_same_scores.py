"""What is served equals what the model says offline, to the last bit, for golden rows and for odd ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from serving.holder import Served
from serving.scoring import frame_of, made_up, rows_of
from tasks.core.model.pipeline import build_pipeline, predict
from tasks.settings import Settings
from tests.make import make_frame, make_spec
from tests.serving.running import running
from tests.serving.served import a_served, an_app
from tests.versions import set_up

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "boosted": ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 40}),
    "forest": ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 15}),
    "logistic": ("sklearn.linear_model.LogisticRegression", {}),
    "values": ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 20}),
}


def versions() -> dict[str, Served]:
    frame = make_frame(600)
    frame.loc[::9, "tenure"] = np.nan
    frame.loc[::7, "region"] = None
    found = {}
    for name, (kind, params) in KINDS.items():
        is_value = kind.endswith("Regressor")
        spec = make_spec(
            name=name,
            task="regression" if is_value else "classification",
            metric="r2" if is_value else "roc_auc",
            contract={"tenure": {"nullable": True}, "region": {"nullable": True}, "plan": {"nullable": True}},
            estimator={"class": kind, "params": params},
        )
        with threadpool_limits(1):
            model = build_pipeline(spec).fit(frame, frame["spend" if is_value else "churned"])
        found[name] = a_served(spec, model, frame.tail(50)[spec.features.all])
    return found


def asked_for(served: Served, rows: int) -> list[list[dict[str, Any]]]:
    """Return requests of 1 to 1000 rows that hold golden and made-up rows of the contract's types."""
    golden = rows_of(served.golden, served.spec)
    texts = made_up(served.model, served.spec, golden, seed=7, rows=rows - len(golden))[0]
    for row in texts:
        row["spend"] = 1.5 if row["spend"] is None else row["spend"]
    given = [*golden, *texts]
    requests, sizes = [], (1, 100, 1, 1000, 1, 333, 1, 1)
    while given:
        size = sizes[len(requests) % len(sizes)]
        requests.append(given[:size])
        given = given[size:]
    return requests


def compared(client: httpx.Client, served: Served, requests: list[list[dict[str, Any]]]) -> int:
    def ask(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        given = client.post(f"/predict/{served.name}", json={"rows": rows})
        assert given.status_code == 200, given.text
        assert given.json()["version"] == served.version
        found: list[dict[str, Any]] = given.json()["answers"]
        return found

    with ThreadPoolExecutor(6) as pool:  # at once, so that requests are scored together
        answers = list(pool.map(ask, requests))
    seen = 0
    for rows, found in zip(requests, answers, strict=True):
        with threadpool_limits(1):
            offline = predict(served.model, frame_of(rows, served.spec))
        assert [one["prediction"] for one in found] == offline.prediction.tolist()
        if offline.probabilities is not None:
            names = [str(name) for name in offline.classes or ()]
            scores = np.array([[one["probabilities"][name] for name in names] for one in found])
            assert np.array_equal(scores, offline.probabilities)
        seen += len(rows)
    return seen


@pytest.mark.parametrize("rows", [2_500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_golden_and_random_rows_get_over_http_the_very_scores_they_get_offline(
    rows: int, fresh: Path, tmp_path: Path
) -> None:
    place = set_up(Settings(state_dir=tmp_path / "state", threads=1), fresh)
    served = versions()
    assert {name: one.scorer.is_rowwise for name, one in served.items()} == {
        "boosted": True, "forest": True, "logistic": False, "values": True,
    }  # fmt: skip
    with running(an_app(place, served)) as client:
        for one in served.values():
            assert compared(client, one, asked_for(one, rows)) == rows


def test_a_row_of_a_tree_has_one_score_in_any_request() -> None:
    served = versions()["boosted"]
    rows = [row for asked in asked_for(served, 600) for row in asked]
    with threadpool_limits(1):
        offline = predict(served.model, frame_of(rows, served.spec)).probabilities
    alone = [list(one["probabilities"].values()) for row in rows for one in served.scorer.answers([row])]
    assert np.array_equal(np.array(alone), offline)
