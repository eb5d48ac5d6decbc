"""Models on disk: written with skops, read back only when every part of them is on our list.

Nothing is unpickled. A file is read once into memory; its digest (when the caller knows it), its archive and
its description are checked before anything it names is imported or built. Serving uses this module, so it
needs neither mlflow nor prefect.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from tasks.core.errors import RegistryError, RegistryUnavailable, WorkflowError
from tasks.core.importing import check_named
from tasks.core.spec import ModelSpec
from tasks.store.allowed import audit, estimators_in, functions_in
from tasks.store.passing import may_pass

MAX_BYTES = 4 * 1024**3  # our choice: a forest beyond this would not serve anyway
SHARED_BYTES = 256 * 1024**2  # our choice: about twenty boosted models, or one large forest
_SHARED: OrderedDict[tuple[str, tuple[str, ...]], tuple[Any, int]] = OrderedDict()
_SHARING = Lock()
_ENTRY_KINDS = (".npy", ".npz", ".bin")
_RETRAIN = "use a version that this project wrote, or retrain"


def save_model(model: object, path: str | Path, *, also: Iterable[str] = ()) -> str:
    """Return the sha256 of the file just written, which is known to load again.

    The file appears whole or not at all. `also` names further classes to accept (see `own_types`).

    Raises:
        RegistryError: when the model holds something that `load_model` would refuse, a lambda for example.
    """
    skops = skops_io()
    target = Path(path)
    try:
        data = skops.dumps(model)
    except Exception as err:  # skops raises many kinds; each means that the model cannot be stored safely
        raise RegistryError(
            f"a {type(model).__name__} that skops cannot store ({type(err).__name__})",
            "a pipeline of scikit-learn parts without lambdas or open handles",
            "replace the part, or name a class of your own module in estimator.preprocess",
        ) from err
    _keep(_shared_key(data, also), loads_model(data, also=also, where=target.name), len(data))
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    draft.write_bytes(data)
    draft.replace(target)
    return hashlib.sha256(data).hexdigest()


def load_model(path: str | Path, *, sha256: str | None = None, also: Iterable[str] = ()) -> Any:
    """Return the fitted estimator stored in the file.

    Args:
        path: a file that `save_model` wrote.
        sha256: digest the file must have; the very bytes that match are the ones loaded.
        also: exact names of further classes to accept, from `own_types` of a spec of this place; never from
            the artifact itself.

    Raises:
        RegistryError: when the file is missing, has another digest, is damaged, is a pickle or an archive
            with escaping names, or holds any type that is not on the list. Nothing of it has run then.
    """
    return loads_model(_read(path, sha256), also=also, where=Path(path).name)


def shared_model(path: str | Path, *, sha256: str | None = None, also: Iterable[str] = ()) -> Any:
    """Return the same as `load_model`, built once per process for each content of the file.

    For callers that only ask for predictions: the object is shared between them and must not be changed. The
    file is read and its digest computed on every call, so that a damaged file is noticed each time. The last
    models of at most `SHARED_BYTES` together are kept.
    """
    data = _read(path, sha256)
    key = _shared_key(data, also)
    with _SHARING:
        if key in _SHARED:
            _SHARED.move_to_end(key)
            return _SHARED[key][0]
    model = loads_model(data, also=also, where=Path(path).name)
    _keep(key, model, len(data))
    return model


def _shared_key(data: bytes, also: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    return hashlib.sha256(data).hexdigest(), tuple(sorted(also))


def _keep(key: tuple[str, tuple[str, ...]], model: Any, size: int) -> None:  # Any: a fitted estimator
    """Keep a model for `shared_model`, and let go of those used longest ago beyond `SHARED_BYTES`."""
    with _SHARING:
        _SHARED[key] = (model, size)
        while len(_SHARED) > 1 and sum(kept for _, kept in _SHARED.values()) > SHARED_BYTES:
            _SHARED.popitem(last=False)


def _read(path: str | Path, sha256: str | None) -> bytes:
    """Return the bytes of a model file that has this digest."""
    source = Path(path)
    try:
        data = source.read_bytes()
    except OSError as err:
        error = RegistryUnavailable if may_pass(err) else RegistryError
        raise error(
            f"no readable model file {source.name} ({type(err).__name__})", "a stored model", _RETRAIN
        ) from err
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise RegistryError(
            f"{source.name} with digest {hashlib.sha256(data).hexdigest()[:12]}…", f"{sha256[:12]}…", _RETRAIN
        )
    return data


def loads_model(data: bytes, *, also: Iterable[str] = (), where: str = "model") -> Any:
    """Return the fitted estimator held in these bytes; see `load_model`."""
    from sklearn.exceptions import InconsistentVersionWarning

    extra = tuple(sorted(also))
    try:
        found = audit(_schema(data, where), extra)
        _refuse_strangers(found.refused, where)
        with warnings.catch_warnings():
            # Another patch release is no fault in itself: golden rows tell whether the answers changed.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            model = skops_io().loads(data, trusted=list(found.names))
    except WorkflowError:
        raise
    except Exception as err:  # a damaged or hostile file can fail anywhere: closed, whatever the kind
        error = RegistryUnavailable if may_pass(err) else RegistryError
        raise error(
            f"{where} that cannot be read ({type(err).__name__})", "a whole skops file", _RETRAIN
        ) from err
    if not hasattr(model, "predict"):
        raise RegistryError(
            f"{where} holding a {type(model).__name__}", "an estimator with predict", _RETRAIN
        )
    return model


def trusted_in(path: str | Path) -> list[str]:
    """Return the types in this file that skops does not trust by itself; for MLflow's own loader.

    Only for a file that passed `load_model`: the list is a description of it, no evidence about it.
    """
    return list(skops_io().get_untrusted_types(file=path))


def skops_io() -> Any:  # Any: a module without types
    """Return `skops.io`, imported without the lists of what it would trust by default.

    To make them skops imports every module of scikit-learn and searches all modules of the process for the
    home of each NumPy function: five seconds of a process that holds Prefect and MLflow. Nothing here rests
    on them, since every name is passed to skops from our own list.
    """
    from unittest.mock import patch

    with _SHARING:
        if "skops.io" not in sys.modules:
            with ExitStack() as stack:
                stack.enter_context(patch("sklearn.utils.all_estimators", list))
                for module in ("numpy", "scipy.special"):  # what `dir` gives of them (PEP 562)
                    stack.enter_context(patch.object(import_module(module), "__dir__", list, create=True))
                import_module("skops.io")
    return import_module("skops.io")


def own_types(spec: ModelSpec) -> tuple[str, ...]:
    """Return what of this project's user a model of this spec may hold, by exact name; functions end in `()`.

    That is the scikit-learn estimators and the plain functions defined in the module that
    `estimator.preprocess` names, and the estimator's own class when it is not scikit-learn's. The spec must
    be the one of this place.
    """
    names: set[str] = set()
    if spec.estimator.preprocess:
        check_named(spec.estimator.preprocess, field="estimator.preprocess")
        module = spec.estimator.preprocess.replace(":", ".").rpartition(".")[0]
        names |= estimators_in(import_module(module)) | functions_in(import_module(module))
    class_path = spec.estimator.class_path.replace(":", ".")
    if not class_path.startswith("sklearn."):
        check_named(class_path, field="estimator.class")
        module, _, name = class_path.rpartition(".")
        found = getattr(import_module(module), name)
        names.add(f"{found.__module__}.{found.__name__}")
    return tuple(sorted(names))


def _refuse_strangers(refused: tuple[str, ...], where: str) -> None:
    if refused:
        raise RegistryError(
            f"{where} holding {', '.join(refused[:4])}" + (f" (+{len(refused) - 4})" if refused[4:] else ""),
            "only types on the project's list",
            "do not load it; if a class or function is your own, define it in the very module that "
            "estimator.preprocess names",
        )


def _schema(data: bytes, where: str) -> object:
    """Return the parsed description of a model whose archive has plain names and a sane size."""
    if data[:4] != b"PK\x03\x04":
        raise RegistryError(f"{where} that is no skops file (a pickle, perhaps)", "a skops file", _RETRAIN)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        for entry in entries:
            plain = entry.filename == Path(entry.filename).name and "\\" not in entry.filename
            link = stat.S_ISLNK(entry.external_attr >> 16)
            known = entry.filename == "schema.json" or entry.filename.endswith(_ENTRY_KINDS)
            if not plain or link or not known:
                raise RegistryError(f"{where} with a suspicious entry name", "plain entry names", _RETRAIN)
        if len({entry.filename for entry in entries}) != len(entries):
            raise RegistryError(f"{where} with two entries of one name", "each entry once", _RETRAIN)
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > MAX_BYTES:
            raise RegistryError(
                f"{where} larger than {MAX_BYTES} bytes unpacked", "a smaller model", _RETRAIN
            )
        # Stored as they are, entries cannot hold more than the file, whatever size they claim to have.
        is_packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if is_packed or unpacked > len(data):
            raise RegistryError(
                f"{where} with entries that unpack to more than they are",
                "entries stored as they are",
                _RETRAIN,
            )
        return json.loads(archive.read("schema.json"))
