"""The files that let MLflow itself load a bundle (`mlflow.sklearn`, `mlflow.pyfunc`) and show it in its UI.

Evergreen never loads a version this way: MLflow takes the list of trusted types from the artifact.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.bundle import MODEL
from tasks.core.golden import Answers
from tasks.core.spec import ModelSpec
from tasks.store.models import trusted_in
from tasks.store.provenance import pinned_requirements

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

EXAMPLE_ROWS = 5
_EXAMPLE, _REQUIREMENTS, _PYTHON = "input_example.json", "requirements.txt", "python_env.yaml"


def write_mlmodel(folder: Path, spec: ModelSpec, rows: pd.DataFrame, answers: Answers) -> None:
    """Write MLmodel, its requirements from the lock, the signature and an input example into the bundle.

    The example and the signature come from the golden rows, so they show nobody.
    """
    import sklearn
    from mlflow import pyfunc
    from mlflow.models import Model

    model = Model(artifact_path=folder.name, run_id=None)
    model.signature = signature_of(spec, rows, answers)
    model.saved_input_example_info = {
        "artifact_path": _EXAMPLE,
        "type": "dataframe",
        "pandas_orient": "split",
    }
    example = _as_signed(rows.head(EXAMPLE_ROWS), spec)
    (folder / _EXAMPLE).write_text(example.to_json(orient="split", index=False), "utf-8")
    pyfunc.add_to_model(model, loader_module="mlflow.sklearn", model_path=MODEL, python_env=_PYTHON)
    model.add_flavor(
        "sklearn",
        pickled_model=MODEL,
        sklearn_version=sklearn.__version__,
        serialization_format="skops",
        skops_trusted_types=trusted_in(folder / MODEL),
        code=None,
    )
    model.save(str(folder / "MLmodel"))
    (folder / _REQUIREMENTS).write_text("\n".join(pinned_requirements()) + "\n", "utf-8")
    (folder / _PYTHON).write_text(_python_env(), "utf-8")


def signature_of(spec: ModelSpec, rows: pd.DataFrame, answers: Answers) -> ModelSignature:
    """Return the model's signature: numbers as doubles, so that missing values do not break it."""
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import ColSpec, Schema

    inputs: Iterable[ColSpec] = (ColSpec(_kind(name, rows, spec), name) for name in spec.features.all)
    outputs = infer_signature(answers.prediction, answers.prediction).outputs
    return ModelSignature(inputs=Schema(list(inputs)), outputs=outputs)


def _kind(name: str, rows: pd.DataFrame, spec: ModelSpec) -> Any:  # Any: mlflow's DataType
    from mlflow.types import DataType
    from pandas.api import types

    if name in spec.features.numeric or types.is_float_dtype(rows[name].dtype):
        return DataType.double
    if types.is_bool_dtype(rows[name].dtype):
        return DataType.boolean
    return DataType.long if types.is_integer_dtype(rows[name].dtype) else DataType.string


def _as_signed(rows: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    import pandas as pd

    return rows.assign(**{name: pd.to_numeric(rows[name]).astype(float) for name in spec.features.numeric})


def _python_env() -> str:
    return json.dumps(
        {"python": platform.python_version(), "build_dependencies": ["pip"], "dependencies": [f"-r {_REQUIREMENTS}"]}
    )
