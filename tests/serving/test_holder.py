"""The version that answers: only one whose own scorer gives what was evaluated, else the last good one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import holder as holding
from serving.holder import Holder, take
from serving.scoring import rows_of
from tasks.core.errors import RegistryError
from tasks.core.model.pipeline import predict
from tasks.settings import Settings
from tests.make import make_spec
from tests.serving.exposed import other_model, promoted
from tests.versions import SMALL, Made, a_version


class Wrapped:
    """A scorer that changes what another says."""

    def __init__(self, inner: Any, change: Any):
        self._inner, self._change = inner, change
        self.is_rowwise = True

    def answers(self, rows: Any) -> list[dict[str, Any]]:
        return [self._change(one) for one in self._inner.answers(rows)]


def nudged(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "probabilities": {"0": 0.5, "1": 0.5}}


def flipped(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "prediction": 1 - answer["prediction"]}


def broken(answer: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("change", "words"),
    [(nudged, "other probabilities"), (flipped, "other predictions"), (broken, "ZeroDivisionError")],
)
def test_a_version_whose_scorer_says_otherwise_never_answers(
    change: Any, words: str, made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(made, place)
    one = Holder("churn", place)
    assert one.refresh()
    assert one.current is not None
    assert (one.current.version, one.trouble) == (1, "")

    promoted(made, place, "a2")
    real = holding.scorer_for
    monkeypatch.setattr(holding, "scorer_for", lambda *given: Wrapped(real(*given), change))
    assert not one.refresh()
    assert one.current.version == 1
    assert words in one.trouble
    monkeypatch.undo()
    assert one.refresh()
    assert (one.current.version, one.trouble, one.swaps) == (2, "", 2)


def test_what_serves_has_its_golden_rows_and_the_scorer_that_answered_them(
    made: Made, place: Settings
) -> None:
    served = take(promoted(made, place), place)
    assert list(served.golden.columns) == served.spec.features.all
    assert len(served.golden) == 50
    given = served.scorer.answers(rows_of(served.golden, served.spec))
    offline = predict(served.model, served.golden)
    assert [one["prediction"] for one in given] == offline.prediction.tolist()
    assert np.array_equal(
        [[one["probabilities"][name] for name in "01"] for one in given], np.asarray(offline.probabilities)
    )


def test_a_regressor_and_text_labels_are_taken_too(made: Made, place: Settings, tmp_path: Path) -> None:
    from dataclasses import replace

    from tasks.core.model.pipeline import build_pipeline
    from tasks.store.models import save_model

    frame = made.frame.assign(churned=np.where(made.frame["churned"] == 1, "gone", "here"))
    text = make_spec(estimator=SMALL)
    number = make_spec(
        name="spend", task="regression", metric="r2", label={"column": "spend"},
        features={"numeric": ["tenure"], "categorical": ["plan"]}, contract={},
        estimator={"class": "sklearn.linear_model.Ridge"},
    )  # fmt: skip
    for spec, rows in ((text, frame), (number, made.frame)):
        path = tmp_path / f"{spec.name}.skops"
        save_model(build_pipeline(spec).fit(rows, rows[spec.label.column]), path)
        rows.tail(60).to_parquet(tmp_path / f"{spec.name}.parquet")
        trained = replace(
            made.trained, model_path=str(path), holdout_path=str(tmp_path / f"{spec.name}.parquet")
        )
        served = take(a_version(made, place, spec.name, spec=spec, trained=trained), place)
        said = served.scorer.answers(rows_of(served.golden.head(1), spec))[0]
        assert said["prediction"] in ("gone", "here") if spec is text else "probabilities" not in said


def test_an_image_that_differs_is_a_warning_and_no_obstacle(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_IMAGE_DIGEST", "sha256:" + "a" * 64)
    promoted(made, place)
    one = Holder("churn", place)
    assert one.refresh()
    assert one.warning == ""
    monkeypatch.setenv("EVERGREEN_IMAGE_DIGEST", "sha256:" + "b" * 64)
    other = Holder("churn", place)
    assert other.refresh()
    assert "made in image sha256:aaaa" in other.warning
    assert "runs in sha256:bbbb" in other.warning
    assert other.trouble == ""
    monkeypatch.delenv("EVERGREEN_IMAGE_DIGEST")
    assert take(promoted(made, place, "a2"), place).warning == ""


def test_another_model_under_the_same_digest_is_not_taken(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    version = promoted(made, place)
    path = take(version, place) and place.root / "versions" / version.digest / "model.skops"
    other = Path(other_model(made, tmp_path, 100).trained.model_path)
    path.chmod(0o600)
    path.write_bytes(other.read_bytes())
    registered = Path(version.source.removeprefix("file://")) / "model.skops"
    registered.chmod(0o600)
    registered.write_bytes(other.read_bytes())
    with pytest.raises(RegistryError, match="another digest"):
        take(version, place)
