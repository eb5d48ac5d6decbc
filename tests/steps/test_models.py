"""Model files: what is written comes back equal, and what is hostile never runs."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

from tasks.core.errors import RegistryError
from tasks.core.model.pipeline import build_pipeline
from tasks.store import models
from tasks.store.allowed import is_sklearn_estimator
from tasks.store.models import load_model, loads_model, save_model, shared_model
from tests.make import make_frame, make_spec

FEATURES = ["tenure", "spend", "plan", "region"]
RAN: list[str] = []  # what hostile content would write to


ROOT = Path(__file__).parents[2]


def rows() -> pd.DataFrame:
    frame = make_frame(300)
    frame.loc[::7, "tenure"] = np.nan
    frame.loc[::11, "plan"] = None
    return frame


def encoded(*, native: bool) -> ColumnTransformer:
    if native:
        codes = OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
            encoded_missing_value=np.nan,
            min_frequency=5,
            max_categories=255,
        )
        return ColumnTransformer(
            [("n", "passthrough", ["tenure", "spend"]), ("c", codes, ["plan", "region"])]
        )
    scale = Pipeline(
        [("i", SimpleImputer(add_indicator=True)), ("s", StandardScaler()), ("r", RobustScaler())]
    )
    text = SimpleImputer(strategy="most_frequent")
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5)
    return ColumnTransformer(
        [
            ("n", scale, ["tenure", "spend"]),
            ("q", Pipeline([("i", SimpleImputer()), ("q", QuantileTransformer(n_quantiles=20))]), ["spend"]),
            ("c", Pipeline([("i", text), ("o", one_hot)]), ["plan", "region"]),
        ]
    )


CLASSIFIERS = [
    HistGradientBoostingClassifier(max_iter=4, categorical_features=[2, 3]),
    HistGradientBoostingClassifier(max_iter=4, early_stopping=True, random_state=np.random.RandomState(3)),
    RandomForestClassifier(4),
    ExtraTreesClassifier(4),
    GradientBoostingClassifier(n_estimators=4),
    LogisticRegression(),
    SGDClassifier(loss="log_loss"),
    SGDClassifier(loss="modified_huber"),
    KNeighborsClassifier(),
    StackingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(3))], cv=2),
]
REGRESSORS = [
    HistGradientBoostingRegressor(max_iter=4, loss="quantile", quantile=0.5),
    HistGradientBoostingRegressor(max_iter=4, loss="poisson"),
    RandomForestRegressor(4),
    GradientBoostingRegressor(n_estimators=4, loss="huber"),
    LinearRegression(),
    Ridge(),
    ElasticNet(),
    SGDRegressor(),
    PoissonRegressor(),
    TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
]


def named(estimator: Any) -> str:
    return type(estimator).__name__


@pytest.mark.parametrize("estimator", CLASSIFIERS + REGRESSORS, ids=named)
def test_a_pipeline_of_scikit_learn_parts_comes_back_bit_for_bit(estimator: Any, tmp_path: Path) -> None:
    frame = rows()
    labels = frame["churned"].map({0: "stays", 1: "goes"}) if estimator in CLASSIFIERS else frame["spend"]
    native = "HistGradient" in type(estimator).__name__
    model = Pipeline([("columns", encoded(native=native)), ("estimator", estimator)])
    with threadpool_limits(1):
        model.fit(frame[FEATURES], labels)
    sha256 = save_model(model, tmp_path / "model.skops")
    again = load_model(tmp_path / "model.skops", sha256=sha256)
    np.testing.assert_array_equal(again.predict(frame[FEATURES]), model.predict(frame[FEATURES]))
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(
            again.predict_proba(frame[FEATURES]), model.predict_proba(frame[FEATURES])
        )


@pytest.mark.parametrize(
    "class_path",
    ["sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.ensemble.RandomForestClassifier"],
)
def test_the_projects_own_pipeline_comes_back_bit_for_bit(class_path: str, tmp_path: Path) -> None:
    frame, spec = rows(), make_spec(estimator={"class": class_path})
    with threadpool_limits(1):
        model = build_pipeline(spec).fit(frame, frame["churned"])
    save_model(model, tmp_path / "model.skops")
    again = load_model(tmp_path / "model.skops")
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))


def run_hostile(text: str) -> str:
    RAN.append(text)
    return text


class Hostile(BaseEstimator):
    """Runs when unpickled, and is none of our classes."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return run_hostile, ("pickle",)

    def predict(self, frame: object) -> object:
        return frame


def fitted() -> Pipeline:
    frame = rows()
    model = Pipeline([("columns", encoded(native=False)), ("estimator", LogisticRegression())])
    return model.fit(frame[FEATURES], frame["churned"])


@pytest.fixture(scope="module")
def honest() -> bytes:
    return skops.io.dumps(fitted())


def rewritten(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return the file with its description changed, as an attacker would."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            new.writestr(entry.filename, content)
    return out.getvalue()


def nodes_of(schema: Any, loader: str) -> list[dict[str, Any]]:
    found, todo = [], [schema]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            found += [item] if item.get("__loader__") == loader else []
            todo += item.values()
        elif isinstance(item, list):
            todo += item
    return found


def refused(data: bytes, tmp_path: Path) -> RegistryError:
    RAN.clear()
    path = tmp_path / "hostile.skops"
    path.write_bytes(data)
    with pytest.raises(RegistryError) as caught:
        load_model(path)
    assert RAN == []
    return caught.value


@pytest.mark.parametrize("dump", [pickle.dumps, "joblib", "compressed joblib"])
def test_a_pickle_is_refused_before_anything_of_it_runs(dump: Any, tmp_path: Path) -> None:
    if callable(dump):
        data = dump(Hostile())
    else:
        joblib.dump(Hostile(), tmp_path / "j", compress=3 if "compressed" in dump else 0)
        data = (tmp_path / "j").read_bytes()
    assert "no skops file" in str(refused(data, tmp_path))
    joblib.load(io.BytesIO(data)) if dump != pickle.dumps else pickle.loads(data)  # noqa: S301 - that it is live
    assert RAN == ["pickle"]


def test_partial_of_os_system_is_refused_though_partial_itself_is_needed(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    model = FunctionTransformer(functools.partial(os.system, f"touch {marker}"))
    fault = refused(skops.io.dumps(Pipeline([("a", model)])), tmp_path)
    assert "functools.partial of posix.system" in str(fault)
    assert not marker.exists()


def test_a_function_and_a_class_that_are_not_listed_are_refused_by_name(tmp_path: Path) -> None:
    data = skops.io.dumps(FunctionTransformer(subprocess.check_output))
    assert "subprocess.check_output (FunctionNode)" in str(refused(data, tmp_path))
    data = skops.io.dumps(Pipeline([("estimator", RenamedHostile())]))
    assert "RenamedHostile (ObjectNode)" in str(refused(data, tmp_path))


class RenamedHostile(BaseEstimator):
    def predict(self, frame: object) -> object:
        return frame


def test_nothing_a_hostile_file_names_is_even_imported(honest: bytes, tmp_path: Path) -> None:
    def change(schema: dict[str, Any]) -> None:
        nodes_of(schema, "ObjectNode")[0].update(__module__="antigravity", __class__="fly")

    sys.modules.pop("antigravity", None)
    refused(rewritten(honest, change), tmp_path)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("loader", "over"),
    [
        ("ObjectNode", {"__loader__": "MethodNode"}),
        ("ObjectNode", {"__loader__": "ConstructorFromReduceNode"}),
        (
            "DictNode",
            {"__loader__": "OperatorFuncNode", "__module__": "operator", "__class__": "methodcaller"},
        ),
        ("ObjectNode", {"__module__": "functools", "__class__": "partial"}),
        ("ListNode", {"__module__": "builtins", "__class__": "eval"}),
        ("TupleNode", {"__module__": "os", "__class__": "system"}),
        ("ObjectNode", {"__loader__": "NoSuchNode"}),
        ("ObjectNode", {"__class__": None}),
    ],
)
def test_a_changed_description_is_refused(
    loader: str, over: dict[str, Any], honest: bytes, tmp_path: Path
) -> None:
    def change(schema: dict[str, Any]) -> None:
        nodes_of(schema, loader)[0].update(over)

    refused(rewritten(honest, change), tmp_path)


def test_a_bit_generator_is_taken_from_a_closed_list(tmp_path: Path) -> None:
    frame = rows()
    model = HistGradientBoostingClassifier(max_iter=2).fit(frame[["tenure", "spend"]], frame["churned"])
    data = skops.io.dumps(model)

    def change(schema: dict[str, Any]) -> None:
        state = nodes_of(schema, "RandomGeneratorNode")[0]["content"]["bit_generator"]
        state["content"]["bit_generator"]["content"] = '"test"'

    assert loads_model(data).predict(frame[["tenure", "spend"]]).shape == (300,)
    assert "bit generator" in str(refused(rewritten(data, change), tmp_path))


def test_an_object_may_not_stand_in_for_another_through_its_id(honest: bytes, tmp_path: Path) -> None:
    def change(schema: dict[str, Any]) -> None:
        first, *_, last = nodes_of(schema, "JsonNode")
        last["__id__"] = first["__id__"]
        last["content"] = '"other"'

    assert "standing in" in str(refused(rewritten(honest, change), tmp_path))


@pytest.mark.parametrize("name", ["../../escape.npy", "/etc/cron.d/x.npy", "a/b.npy", "run.py", "..\\x.npy"])
def test_an_archive_with_an_escaping_or_strange_name_is_refused(
    name: str, honest: bytes, tmp_path: Path
) -> None:
    out = io.BytesIO(honest)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(name, b"x")
    assert "suspicious entry name" in str(refused(out.getvalue(), tmp_path))


def test_an_archive_that_unpacks_to_more_than_fits_is_refused(
    honest: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.store.models.MAX_BYTES", 10_000_000)
    out = io.BytesIO(honest)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npy", bytes(10_000_001))
    assert len(out.getvalue()) < 1_000_000
    assert "unpacked" in str(refused(out.getvalue(), tmp_path))


def test_an_object_array_inside_is_not_unpickled(honest: bytes, tmp_path: Path) -> None:
    RAN.clear()
    inner = io.BytesIO()
    np.save(inner, np.array([Hostile()], dtype=object), allow_pickle=True)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(honest)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            is_array = entry.filename.endswith(".npy")
            new.writestr(entry.filename, inner.getvalue() if is_array else old.read(entry))
    assert "cannot be read" in str(refused(out.getvalue(), tmp_path))


@pytest.mark.parametrize("kept", [0, 3, 100, -200])
def test_a_truncated_file_is_refused(kept: int, honest: bytes, tmp_path: Path) -> None:
    refused(honest[:kept], tmp_path)


def test_a_deeply_nested_description_is_refused_rather_than_crashing(honest: bytes, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("schema.json", "[" * 200_000 + "]" * 200_000)
    refused(out.getvalue(), tmp_path)


def test_a_missing_file_a_wrong_digest_and_a_thing_without_predict_are_refused(
    honest: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    with pytest.raises(RegistryError, match="no readable model file"):
        load_model(path)
    path.write_bytes(honest)
    with pytest.raises(RegistryError, match="digest"):
        load_model(path, sha256="0" * 64)
    path.write_bytes(skops.io.dumps({"a": 1}))
    with pytest.raises(RegistryError, match="with predict"):
        load_model(path)


def test_a_model_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    frame = rows()
    model = Pipeline([("f", FunctionTransformer(lambda x: x)), ("e", LogisticRegression())])
    model.fit(frame[["spend"]], frame["churned"])
    with pytest.raises(RegistryError):
        save_model(model, tmp_path / "model.skops")
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_class_loads_only_when_the_caller_names_it(tmp_path: Path) -> None:
    name = f"{RenamedHostile.__module__}.RenamedHostile"
    path = tmp_path / "model.skops"
    sys.modules.setdefault(RenamedHostile.__module__, sys.modules[__name__])
    with pytest.raises(RegistryError, match="RenamedHostile"):
        save_model(RenamedHostile(), path)
    save_model(RenamedHostile(), path, also=[name])
    assert load_model(path, also=[name]).predict(3) == 3
    with pytest.raises(RegistryError, match="RenamedHostile"):
        load_model(path)


def test_a_shared_model_is_built_once_and_its_file_is_checked_on_every_call(
    honest: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_SHARED", OrderedDict())
    path, copy = tmp_path / "model.skops", tmp_path / "copy.skops"
    for place in (path, copy):
        place.write_bytes(honest)
    built = shared_model(path)
    assert shared_model(copy, sha256=hashlib.sha256(honest).hexdigest()) is built
    assert load_model(path) is not built
    with pytest.raises(RegistryError, match="digest"):
        shared_model(path, sha256="0" * 64)
    path.write_bytes(honest[:-100])
    with pytest.raises(RegistryError):
        shared_model(path)
    path.unlink()
    with pytest.raises(RegistryError, match="no readable model file"):
        shared_model(path)


def test_a_shared_model_with_a_users_class_is_for_those_who_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_SHARED", OrderedDict())
    name, path = f"{RenamedHostile.__module__}.RenamedHostile", tmp_path / "model.skops"
    sys.modules.setdefault(RenamedHostile.__module__, sys.modules[__name__])
    save_model(RenamedHostile(), path, also=[name])
    assert shared_model(path, also=[name]).predict(3) == 3
    with pytest.raises(RegistryError, match="RenamedHostile"):
        shared_model(path)


def test_shared_models_are_kept_within_a_bound_the_newest_ones_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, paths = rows(), [tmp_path / f"{number}.skops" for number in range(3)]
    for number, path in enumerate(paths):
        save_model(LogisticRegression(C=1 + number).fit(frame[["spend"]], frame["churned"]), path)
    monkeypatch.setattr(models, "_SHARED", OrderedDict())
    monkeypatch.setattr(models, "SHARED_BYTES", int(2.5 * paths[0].stat().st_size))
    first, second, third = (shared_model(path) for path in paths)
    assert shared_model(paths[2]) is third and shared_model(paths[1]) is second
    assert shared_model(paths[0]) is not first
    monkeypatch.setattr(models, "SHARED_BYTES", 0)
    newest = shared_model(paths[2])
    assert list(models._SHARED) and newest is shared_model(paths[2])


def test_reading_models_needs_neither_mlflow_nor_prefect() -> None:
    code = (
        "import sys, tasks.store.models, tasks.store.registry\n"
        "print([name for name in ('mlflow', 'prefect') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_estimator_of_scikit_learn_is_known_by_name_without_importing_all_of_them() -> None:
    public = {f"{kind.__module__}.{kind.__name__}" for _, kind in all_estimators()}
    assert all(map(is_sklearn_estimator, public))
    others = (
        *("sklearn.base.BaseEstimator", "sklearn.utils.check_array", "sklearn.tests.test_base.MyEstimator"),
        *("sklearn.linear_model._base.LinearModel", "sklearn..svm.SVC", "os.system", "sklearn.os.system"),
        *("sklearn.svm.SVC", "sklearn.experimental.enable_iterative_imputer.IterativeImputer"),
    )
    assert not any(map(is_sklearn_estimator, others))


def test_skops_is_imported_without_searching_every_module_of_the_process() -> None:
    code = (
        "import sys, sklearn.utils, numpy, scipy.special; from tasks.store.models import skops_io\n"
        "before = (sklearn.utils.all_estimators, dir(numpy), dir(scipy.special)); skops_io()\n"
        "assert before == (sklearn.utils.all_estimators, dir(numpy), dir(scipy.special))\n"
        "print('sklearn.gaussian_process' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
