"""A spec names scikit-learn's estimators and code of this place's own packages, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.runtime import deployment

import tasks.declared
from tasks.core.data.checks import find_check
from tasks.core.errors import SpecError
from tasks.core.importing import load_object, named_code
from tasks.core.spec import ModelSpec
from tasks.declared import check_declared
from tasks.store.models import own_types
from tests.make import make_spec


@pytest.fixture(autouse=True)
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `models` with code of its own, and with what it imports."""
    package = tmp_path / "models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "churn.py").write_text(
        "import subprocess\n"
        "from os import system\n"
        "from subprocess import run\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "def build():\n    return StandardScaler()\n"
        "def rule(frame, spec):\n    return frame.iloc[:, 0].notna()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("models", "models.churn"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delenv("EVERGREEN_CODE")


FOREIGN = [
    "os:system",
    "os.system",
    "subprocess:run",
    "models.churn:system",
    "models.churn:run",
    "models_of_another:build",
    "sklearn.datasets:fetch_openml",
    "sklearn.utils:check_array",
    "tests.make:make_spec",
    "tasks.settings:Settings",
]


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("field", ["estimator.preprocess", "gate.value.function", "estimator.class"])
def test_a_callable_of_just_any_module_is_refused(path: str, field: str) -> None:
    with pytest.raises(SpecError):
        load_object(path, field=field)


@pytest.mark.parametrize("path", [each for each in FOREIGN if "sklearn" not in each])
def test_a_check_of_just_any_module_is_refused(path: str) -> None:
    with pytest.raises(SpecError):
        find_check(path)


def test_a_module_of_ones_own_may_stand_anywhere_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "own_features.py").write_text(
        "import os\nfrom os import system\ndef build():\n    return 1\n"
    )
    assert load_object("own_features:build")() == 1
    for path in (
        "own_features:system",
        "own_features.os:system",
        "mlflow:start_run",
        "this:s",
        "nowhere:at_all",
    ):
        with pytest.raises(SpecError):
            load_object(path)


def test_what_is_refused_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.setenv("EVERGREEN_CODE", "models")
    spec = make_spec(
        estimator={"class": "sklearn.linear_model.Ridge", "preprocess": "trap:build"}, **REGRESSION
    )
    for call in (lambda: load_object("trap:build"), lambda: find_check("trap:rule"), lambda: own_types(spec)):
        with pytest.raises(SpecError):
            call()


REGRESSION: dict[str, Any] = {"task": "regression", "metric": "r2", "label": {"column": "spend"},
              "features": {"numeric": ["tenure"]}, "contract": {}}  # fmt: skip


def test_code_of_ones_own_package_and_scikit_learns_estimators_are_had() -> None:
    assert load_object("models.churn:build", field="estimator.preprocess")().fit
    assert load_object("models.churn.StandardScaler").__name__ == "StandardScaler"
    assert load_object("sklearn.linear_model.Ridge").__name__ == "Ridge"
    assert load_object("numpy.log1p", field="estimator.params")(0.0) == 0.0
    assert find_check("models.churn:rule")


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        load_object("nowhere.features:build")
    assert "'nowhere'" in caught.value.found.partition(", but")[2]


def test_with_a_list_nothing_else_is_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_features.py").write_text("def build():\n    return 1\n")
    monkeypatch.setenv("EVERGREEN_CODE", "models")
    with pytest.raises(SpecError):
        load_object("own_features:build")


def test_a_package_may_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_CODE", "models, tests.make")
    assert load_object("tests.make:make_frame")
    with pytest.raises(SpecError):
        load_object("tests.drifted:day")


def spec_naming(preprocess: str | None) -> ModelSpec:
    named = {"preprocess": preprocess} if preprocess else {}
    return make_spec(estimator={"class": "sklearn.linear_model.LogisticRegression", **named})


class _Api:
    """The Prefect API, which knows one deployment."""

    def __init__(self, block: dict[str, Any]):
        self.parameters = {"spec": block}

    def __enter__(self) -> _Api:
        return self

    def __exit__(self, *rest: object) -> None:
        """Nothing to close."""

    def read_deployment(self, identity: str) -> _Api:
        assert identity == "d-1"
        return self


def test_a_typed_parameter_names_no_code_that_its_deployment_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declared = spec_naming("models.churn:build")
    block = declared.model_dump(mode="json", by_alias=True)
    monkeypatch.setattr(tasks.declared, "get_client", lambda sync_client: _Api(block))
    monkeypatch.setattr(deployment, "id", "d-1", raising=False)
    check_declared(declared)
    check_declared(spec_naming(None))
    with pytest.raises(SpecError):
        check_declared(spec_naming("models.churn:rule"))
    monkeypatch.setattr(deployment, "id", None, raising=False)
    check_declared(spec_naming("models.churn:rule"))  # by hand


def test_all_code_in_a_spec_is_found() -> None:
    spec = make_spec(
        estimator={"class": "models.churn.Net", "params": {"a": [{"function": "numpy.log1p"}]}},
        contract={"checks": ["some_feature_known", "models.churn:rule"]},
        gate={"value": {"function": "models.worth:of"}},
    )
    assert named_code(spec) == {"models.churn.Net", "models.churn:rule", "models.worth:of"}
