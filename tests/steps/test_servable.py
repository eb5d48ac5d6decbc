from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks import register
from tasks.core.errors import NotServable, PromotionRefused, RegistryError
from tasks.core.model.bundle import GOLDEN, MANIFEST, MODEL, Manifest, digest_of
from tasks.core.model.pipeline import build_pipeline
from tasks.settings import Settings
from tasks.store import clean, ledger, registry
from tasks.store.engine import open_store
from tasks.store.models import own_types, save_model
from tasks.store.version import Version
from tasks.versions import probe as probing
from tasks.versions.probe import probe
from tests.make import make_spec
from tests.versions import LATER, SMALL, SPEC_, Made, a_version, files_of, moved

DEAD = "a process was started"


@pytest.fixture
def version(made: Made, place: Settings) -> Version:
    return a_version(made, place)


@pytest.fixture
def apart(place: Settings) -> Settings:
    """The same place, where versions are tried in a clean process."""
    return Settings(state_dir=place.state_dir, threads=1, probe="process")


def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing.subprocess, "run", lambda *_, **__: pytest.fail(DEAD))


def answering(monkeypatch: pytest.MonkeyPatch, **over: Any) -> list[dict[str, Any]]:
    """Let the process be one that answers at once; return the requests it gets."""
    asked: list[dict[str, Any]] = []
    answer = {"calls": 60, "p50_ms": 3.0, "p95_ms": 5.0, "environment": clean.environment(()), **over}

    def run(words: list[str], **given: Any) -> subprocess.CompletedProcess[str]:
        asked.append({**json.loads(given["input"]), "env": given["env"], "words": words})
        return subprocess.CompletedProcess(words, 0, f"chatter\n{json.dumps(answer)}\n", "")

    monkeypatch.setattr(probing.subprocess, "run", run)
    return asked


# In a clean process.


def test_a_version_is_tried_in_a_process_that_knows_nothing_of_this_one_and_only_once(
    version: Version, apart: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn.py", "json.py", "sitecustomize.py"):  # what a working directory may hold
        (tmp_path / name).write_text("raise SystemExit('a stranger was imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    seen = probe(version, apart, limit_ms=10_000)

    servable, libraries = seen["servable"], seen["environment"]
    assert servable["where"] == "process"
    assert servable["loaded"] == []  # neither prefect nor mlflow nor pytest
    assert (servable["golden_rows"], servable["calls"]) == (50, 60)
    assert 0 < servable["p50_ms"] <= servable["p95_ms"] < 10_000
    assert servable["import_seconds"] > 0
    assert servable["load_seconds"] > 0
    assert servable["memory_mb"] > 20
    assert libraries["python"] == sys.version.split()[0]
    assert libraries["trained_with"] == libraries["scikit_learn"]
    assert not libraries["differs"].get("scikit-learn")
    assert (seen["digest"], seen["promise"]["metric"]) == (version.digest, "roc_auc")

    no_process(monkeypatch)
    again = probe(version, apart, limit_ms=10_000)
    assert again["servable"] == {**servable, "cached": True}
    assert not list((apart.root / "versions").glob(".part-*"))


def test_a_version_with_classes_of_a_user_loads_in_a_clean_process_where_their_module_stands(
    made: Made, apart: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near_features.py").write_text(OWN_FEATURES)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = make_spec(estimator={**SMALL, "preprocess": "near_features:build"})
    frame = made.frame
    model = build_pipeline(spec).fit(frame.head(240), frame["churned"].head(240))
    save_model(model, tmp_path / MODEL, also=own_types(spec))
    trained = replace(made.trained, model_path=str(tmp_path / MODEL))
    version = a_version(made, apart, spec=spec, trained=trained)

    assert probe(version, apart, own_types(spec))["servable"]["golden_rows"] == 50
    here = Settings(state_dir=apart.state_dir, probe="here")
    with pytest.raises(NotServable, match=r"near_features\.Filled"):
        probe(version, here)  # a class that nobody vouches for


def test_a_version_that_answers_otherwise_in_a_clean_process_is_not_servable_and_leaves_no_note(
    version: Version, apart: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(files_of(version), folder)
    golden = pd.read_parquet(folder / GOLDEN)
    golden["__probability_1__"] += 0.01
    golden.to_parquet(folder / GOLDEN, index=False)
    kept = Manifest.from_json((folder / MANIFEST).read_text())
    manifest = replace(kept, files={**kept.files, GOLDEN: digest_of((folder / GOLDEN).read_bytes())})
    (folder / MANIFEST).write_text(manifest.to_json())

    @contextmanager
    def copied(*_: Any, **__: Any) -> Iterator[tuple[Path, Manifest]]:
        yield folder, manifest

    monkeypatch.setattr(registry, "downloaded", copied)
    with pytest.raises(NotServable, match="other probabilities on 50 of 50 golden rows") as caught:
        probe(version, apart)
    assert caught.value.model == "churn"
    assert not list((apart.root / "versions").glob("*.probe.json"))
    here = Settings(state_dir=apart.state_dir, probe="here")
    with pytest.raises(NotServable, match="other probabilities on 50 of 50 golden rows"):
        probe(version, here)


@pytest.mark.parametrize(
    ("launch", "why"),
    [
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("raise ValueError('row 12 of Ann')", r"code 1 \(ValueError\)"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("print('[1, 2]')", "no word"),
    ],
)
def test_a_process_that_ends_without_an_answer_is_not_servable_and_no_row_is_told(
    version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch, launch: str, why: str
) -> None:
    monkeypatch.setattr(clean, "LAUNCH", launch)
    with pytest.raises(NotServable, match=why) as caught:
        probe(version, apart)
    assert "Ann" not in str(caught.value)


def test_a_process_that_gives_no_answer_in_time_is_stopped_and_not_servable(
    version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean, "LAUNCH", "import signal; signal.pause()")
    monkeypatch.setattr(probing, "TIMEOUT", 0.3)
    with pytest.raises(NotServable, match="without an answer after"):
        probe(version, apart)


def test_a_process_that_cannot_be_started_is_a_fault_of_the_place_not_of_the_version(
    version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing.sys, "executable", "/nowhere/python")
    with pytest.raises(RegistryError, match="no process to try version 1 in"):
        probe(version, apart)


def test_the_process_gets_no_secret_and_no_setting_of_this_place(
    version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STORE", "sqlite:///elsewhere.db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    asked = answering(monkeypatch)
    probe(version, apart)
    assert set(asked[0]["env"]) <= {*probing._KEPT_ENVIRONMENT, *probing._THREADS, "HOME"}
    assert asked[0]["env"]["OMP_NUM_THREADS"] == "1"
    assert asked[0]["words"][1] == "-I"
    assert Path(asked[0]["folder"]).parent == apart.root / "versions"


def test_damaged_files_are_the_registrys_fault_and_start_no_process(
    version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_process(monkeypatch)
    (files_of(version) / MODEL).write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(RegistryError, match=r"model\.skops has another digest"):
        probe(version, apart)


# What is remembered.


def test_what_was_seen_holds_for_these_files_in_this_environment_only(
    made: Made, version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = a_version(made, apart, "a2")
    asked = answering(monkeypatch)
    assert [probe(version, apart)["servable"]["cached"] for _ in range(2)] == [False, True]
    probe(version, apart, also=["sklearn.svm.SVC"])  # other classes accepted
    assert len(asked) == 2
    monkeypatch.setattr(probing, "pinned_requirements", lambda: ("skops==0.0.1",))  # another lock
    assert probe(version, apart)["servable"]["cached"] is False
    probe(other, apart)  # another version
    assert len(asked) == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"digest": 1, "where": 2, "seen": 3}'])
def test_a_note_that_cannot_be_read_is_found_out_again(
    version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    asked = answering(monkeypatch)
    (apart.root / "versions").mkdir(exist_ok=True)
    note = apart.root / "versions" / f"{version.digest}.probe.json"
    note.write_text(content)
    assert probe(version, apart)["servable"]["cached"] is False
    assert json.loads(note.read_text())["digest"] == version.digest
    assert len(asked) == 1


# How long one row takes.


def test_a_version_slower_than_the_limit_of_this_place_is_not_servable(
    version: Version, place: Settings
) -> None:
    with pytest.raises(NotServable, match=r"ms a row \(P95 of 60 calls\).*at most 1e-06 ms"):
        probe(version, place, limit_ms=1e-6)
    assert probe(version, place, limit_ms=60_000)["servable"]["limit_ms"] == 60_000


def test_a_version_slower_than_the_limit_of_its_own_spec_is_refused_and_the_champion_stays(
    made: Made, place: Settings
) -> None:
    moved(a_version(made, place), place)
    slow = a_version(made, place, "a2", spec=make_spec(estimator=SMALL, gate={"max_latency_ms": 1e-6}))
    with pytest.raises(PromotionRefused, match=r"gate\.max_latency_ms") as caught:
        moved(slow, place, "d2")
    assert isinstance(caught.value, NotServable)
    assert register.champion.fn("churn", settings=place).version == 1


def test_a_remembered_time_above_a_new_limit_is_measured_again(
    version: Version, apart: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, p95_ms=5.0)
    probe(version, apart)
    asked = answering(monkeypatch, p95_ms=3.5)
    assert probe(version, apart, limit_ms=4.0)["servable"]["p95_ms"] == 3.5
    assert [one["limit_ms"] for one in asked] == [4.0]
    with pytest.raises(NotServable, match=r"3\.5 ms a row"):
        probe(version, apart, limit_ms=3.0)


def test_the_best_of_three_rounds_counts_when_the_first_was_too_slow(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter([9.0, 4.0, 6.0])
    monkeypatch.setattr(clean, "latency", lambda *_, **__: clean.Latency(60, 1.0, next(rounds)))
    assert clean.examine(files_of(version), limit_ms=5.0)["p95_ms"] == 4.0
    assert next(rounds) == 6.0  # a round below the limit ends it


def test_a_model_that_fails_on_one_row_alone_is_not_servable(
    version: Version, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> clean.Latency:
        raise ValueError("row 12 of Ann")

    monkeypatch.setattr(clean, "latency", fails)
    with pytest.raises(NotServable, match=r"fails on a single row \(ValueError\)") as caught:
        probe(version, place)
    assert "Ann" not in str(caught.value)


# The libraries.


def test_another_minor_release_of_scikit_learn_than_the_lock_names_is_not_servable(
    version: Version, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "pinned_requirements", lambda: ("scikit-learn==0.1.0",))
    with pytest.raises(NotServable, match=r"where requirements\.lock says 0\.1\.0"):
        probe(version, place)


def test_other_differences_from_the_lock_are_told_and_no_more(
    version: Version, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = clean.environment(())["scikit_learn"]
    patch = f"{here.rpartition('.')[0]}.99"
    pins = ("skops==0.0.1", f"scikit-learn=={patch}", "no-such-package==1")
    monkeypatch.setattr(probing, "pinned_requirements", lambda: pins)
    found = probe(version, place)["environment"]
    assert found["locked"] is False
    assert found["differs"]["scikit-learn"] == [here, patch]
    assert found["differs"]["no-such-package"] == [None, "1"]
    assert found["differs"]["skops"][1] == "0.0.1"


def test_without_a_lock_it_is_not_known_whether_the_libraries_are_the_locked_ones(
    version: Version, place: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(probing, "LOCK", tmp_path / "requirements.lock")
    assert probe(version, place)["environment"]["locked"] is None


def test_what_was_seen_is_kept_in_the_ledger_with_the_promotion(version: Version, place: Settings) -> None:
    moved(version, place, as_of=LATER)
    row = ledger.history(open_store(place), SPEC_.name)[-1]
    assert row.evidence["servable"]["where"] == "here"
    assert row.evidence["environment"]["trained_with"] == row.evidence["environment"]["scikit_learn"]


OWN_FEATURES = """
from sklearn.base import BaseEstimator, TransformerMixin
class Filled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = 1
        return self
    def transform(self, X):
        return X[["tenure"]].fillna(0.0).to_numpy()
def build():
    return Filled()
"""
