"""The files that let MLflow itself load a bundle (`mlflow.sklearn`, `mlflow.pyfunc`) and show it in its UI.

Evergreen never loads a version this way: MLflow takes the list of trusted types from the artifact. They are
written here as MLflow would, without importing its model packages, which costs seconds.
"""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.model.bundle import MODEL
from tasks.core.model.golden import Answers
from tasks.core.spec import ModelSpec
from tasks.store.models import trusted_in
from tasks.store.provenance import pinned_requirements

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE_ROWS = 5
_EXAMPLE, _REQUIREMENTS, _PYTHON = "input_example.json", "requirements.txt", "python_env.yaml"


def write_mlmodel(
    folder: Path, spec: ModelSpec, rows: pd.DataFrame, answers: Answers, *, created: datetime
) -> None:
    """Write MLmodel, its requirements from the lock, the signature and an input example into the bundle.

    The example and the signature come from the golden rows, so they show nobody.
    """
    import yaml

    description = {
        "flavors": {"python_function": _pyfunc_flavor(), "sklearn": _sklearn_flavor(folder)},
        "mlflow_version": metadata.version("mlflow"),
        "saved_input_example_info": {
            "artifact_path": _EXAMPLE,
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "signature": signature_of(spec, rows, answers),
        "utc_time_created": created.replace(tzinfo=None).isoformat(sep=" "),
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(description, sort_keys=True), "utf-8")
    example = _as_signed(rows.head(EXAMPLE_ROWS), spec)
    (folder / _EXAMPLE).write_text(example.to_json(orient="split", index=False), "utf-8")
    (folder / _REQUIREMENTS).write_text("\n".join(pinned_requirements()) + "\n", "utf-8")
    (folder / _PYTHON).write_text(yaml.safe_dump(_environment()), "utf-8")


def signature_of(spec: ModelSpec, rows: pd.DataFrame, answers: Answers) -> dict[str, Any]:  # Any: JSON
    """Return the model's signature: numbers as doubles, so that missing values do not break it."""
    inputs = [{"name": name, "type": _kind(name, rows, spec), "required": True} for name in spec.features.all]
    dtype = answers.prediction.dtype
    output = {"dtype": dtype.name if dtype.kind in "fiub" else "object", "shape": [-1]}
    return {
        "inputs": json.dumps(inputs),
        "outputs": json.dumps([{"type": "tensor", "tensor-spec": output}]),
        "params": None,
    }


def _pyfunc_flavor() -> dict[str, Any]:  # Any: as MLflow writes it
    return {
        "env": {"virtualenv": _PYTHON},
        "loader_module": "mlflow.sklearn",
        "model_path": MODEL,
        "predict_fn": "predict",
        "python_version": platform.python_version(),
    }


def _sklearn_flavor(folder: Path) -> dict[str, Any]:  # Any: as MLflow writes it
    return {
        "code": None,
        "pickled_model": MODEL,  # MLflow's name for the file, whatever its format
        "serialization_format": "skops",
        "skops_trusted_types": trusted_in(folder / MODEL),
        "sklearn_version": metadata.version("scikit-learn"),
    }


def _environment() -> dict[str, Any]:  # Any: as MLflow writes it
    return {
        "python": platform.python_version(),
        "build_dependencies": ["pip"],
        "dependencies": [f"-r {_REQUIREMENTS}"],
    }


def _kind(name: str, rows: pd.DataFrame, spec: ModelSpec) -> str:
    from pandas.api import types

    if name in spec.features.numeric or types.is_float_dtype(rows[name].dtype):
        return "double"
    if types.is_bool_dtype(rows[name].dtype):
        return "boolean"
    return "long" if types.is_integer_dtype(rows[name].dtype) else "string"


def _as_signed(rows: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    import pandas as pd

    return rows.assign(**{name: pd.to_numeric(rows[name]).astype(float) for name in spec.features.numeric})
