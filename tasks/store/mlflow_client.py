"""An MLflow client that is set up once, calls nobody else, and fails soon and clearly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from tasks.core.errors import RegistryError, RegistryUnavailable, WorkflowError
from tasks.settings import Settings
from tasks.store.deadline import LEAST_BYTES, SECONDS, within
from tasks.store.locks import file_lock
from tasks.store.passing import may_pass
from tasks.store.s3 import lend_to_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's own limits let a call to a server that refuses connections block for about four minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "GIT_PYTHON_REFRESH": "quiet",
}
_ready: set[tuple[int, str]] = set()
_starting = Lock()


def open_client(settings: Settings | None = None) -> MlflowClient:
    """Return a client of this place's MLflow, whose database exists and is at MLflow's schema.

    The first call of a process sets a database up under a lock, because several processes that do so at once
    destroy each other's migration.

    Raises:
        RegistryError: when MLflow does not answer.
    """
    place = settings or Settings()
    uri = place.mlflow_uri
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    lend_to_mlflow(place)
    with _starting, registry_errors("opening MLflow"):
        if (os.getpid(), uri) in _ready or not is_database(uri):
            return _client(uri)
        with file_lock(place.root / "locks" / "mlflow.lock"):
            client = _client(uri)
            client.search_experiments(max_results=1)
            client.search_registered_models(max_results=1)
        _ready.add((os.getpid(), uri))
        return client


def is_database(uri: str) -> bool:
    """Return whether MLflow runs embedded on a database, rather than as a server."""
    return not uri.startswith(("http://", "https://"))


@contextmanager
def registry_errors(doing: str, model: str = "") -> Iterator[None]:
    """Turn whatever MLflow, its database, the network or the disk raise in the block into a RegistryError.

    It is a RegistryUnavailable where the same call may end otherwise a moment later.

    The message holds the kind of the fault and never its text, which may show a URL with a password.
    """
    try:
        yield
    except WorkflowError:
        raise
    except Exception as err:  # any fault of the registry means "not known", never "not there"
        code = getattr(err, "error_code", "")
        kind = f"{type(err).__name__} {code}".strip()
        error = RegistryUnavailable if may_pass(err) else RegistryError
        raise error(
            f"{doing} failed ({kind})",
            "a registry that answers",
            "check EVERGREEN_MLFLOW, the network and the disk, then run again; nothing was moved",
            model=model,
        ) from err


def experiment_id(client: MlflowClient, name: str, settings: Settings) -> str:
    """Return the id of the model's experiment, created when new.

    Embedded, its artifacts lie at an absolute place below the artifact root; a server decides for itself.
    """
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    location = f"{settings.artifact_root}/mlflow/{name}" if is_database(settings.mlflow_uri) else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        known = client.get_experiment_by_name(name)  # another process was first
        if known is None:
            raise
        return str(known.experiment_id)


def _client(uri: str) -> MlflowClient:
    import mlflow

    if mlflow.get_tracking_uri() != uri:
        mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    return client if uri.startswith("sqlite:") else cast("MlflowClient", _Bounded(client))


class _Bounded:
    """A client each of whose calls ends in time, whatever its server does."""

    def __init__(self, client: MlflowClient):
        self._client = client

    def __getattr__(self, name: str) -> Any:  # Any: whatever the client has of this name
        found = getattr(self._client, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return within(SECONDS, partial(found, *args, **kwargs))

        return call


def upload(client: MlflowClient, run_id: str, folder: Path, under: str) -> None:
    """Store the folder's files with the run; a transfer may take longer than a call, by its size."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    plain = getattr(client, "_client", client) if isinstance(client, _Bounded) else client
    work = partial(plain.log_artifacts, run_id, str(folder), under)
    within(SECONDS + SECONDS * size / LEAST_BYTES, work)


def download(address: str, folder: Path) -> None:
    """Copy one artifact into the folder, as long as its bytes keep coming."""
    import mlflow

    def moved() -> int:
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())

    work = partial(mlflow.artifacts.download_artifacts, artifact_uri=address, dst_path=str(folder))
    within(SECONDS, work, progress=moved)
