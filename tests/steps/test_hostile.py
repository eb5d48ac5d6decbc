"""Hostile artifacts: whoever can write to the artifact store, or even the registry, gets nothing to run."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import shutil
import stat
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
import skops.io
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from tasks import register
from tasks.core.errors import NotServable, RegistryError
from tasks.core.model.bundle import GOLDEN, MANIFEST, MODEL, SPEC, digest_of
from tasks.settings import Settings
from tasks.store import catalog, ledger, models, registry
from tasks.store.engine import open_store, writing
from tasks.store.mlflow_client import open_client
from tasks.store.models import load_model, loads_model
from tasks.store.schema_versions import versions
from tests.copied import copy_place
from tests.versions import LATER, Made, Version, a_version, files_of, moved


class Marks:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, bytes]]:
        return _mark, (str(self.where), b"ran")


def _mark(where: str, what: bytes) -> int:
    return Path(where).write_bytes(what)


def _packed(data: bytes, compression: int, name: str, content: bytes) -> bytes:
    """Return the archive with one more entry."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a", compression) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def pickled(honest: bytes, mark: Path) -> bytes:
    del honest
    return pickle.dumps(Marks(mark))


def dumped_by_joblib(honest: bytes, mark: Path) -> bytes:
    del honest
    out = io.BytesIO()
    joblib.dump(Marks(mark), out, compress=3)
    return out.getvalue()


def pickle_behind_a_zip_signature(honest: bytes, mark: Path) -> bytes:
    del honest
    return b"PK\x03\x04" + pickle.dumps(Marks(mark))


def partial_of_a_command(honest: bytes, mark: Path) -> bytes:
    del honest
    return skops.io.dumps(
        Pipeline([("a", FunctionTransformer(functools.partial(os.system, f"touch {mark}")))])
    )


def zip_slip(honest: bytes, mark: Path) -> bytes:
    del mark
    return _packed(honest, zipfile.ZIP_STORED, "../../escape.npy", b"x")


def symlink(honest: bytes, mark: Path) -> bytes:
    entry = zipfile.ZipInfo("link.npy")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO(honest)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(entry, str(mark))
    return out.getvalue()


def second_description(honest: bytes, mark: Path) -> bytes:
    """Return an archive whose honest description is followed by another one."""
    with zipfile.ZipFile(io.BytesIO(partial_of_a_command(honest, mark))) as other, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _packed(honest, zipfile.ZIP_STORED, "schema.json", other.read("schema.json"))


def bomb(honest: bytes, mark: Path) -> bytes:
    del mark
    return _packed(honest, zipfile.ZIP_DEFLATED, "bomb.npy", bytes(30_000_000))


def bomb_that_lies(honest: bytes, mark: Path) -> bytes:
    """Return a bomb that says in both of its headers that it unpacks to ten bytes."""
    data = bytearray(bomb(honest, mark))
    real = struct.pack("<L", 30_000_000)
    assert data.count(real) == 2
    return bytes(data.replace(real, struct.pack("<L", 10)))


def stored_bomb_that_overlaps(honest: bytes, mark: Path) -> bytes:
    """Return an archive with a stored entry that says it is larger than the whole file."""
    del mark
    data = bytearray(_packed(honest, zipfile.ZIP_STORED, "big.npy", b"y" * 1234))
    real = struct.pack("<L", 1234)
    return bytes(data.replace(real, struct.pack("<L", 3_000_000_000)))


def truncated(honest: bytes, mark: Path) -> bytes:
    del mark
    return honest[: len(honest) // 2]


ATTACKS = [
    pickled,
    dumped_by_joblib,
    pickle_behind_a_zip_signature,
    partial_of_a_command,
    zip_slip,
    symlink,
    second_description,
    bomb,
    bomb_that_lies,
    stored_bomb_that_overlaps,
    truncated,
]
attacks = pytest.mark.parametrize("attack", ATTACKS, ids=[attack.__name__ for attack in ATTACKS])


@attacks
def test_a_hostile_model_file_is_refused_and_nothing_of_it_runs(
    attack: Callable[[bytes, Path], bytes], made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreted: list[object] = []
    monkeypatch.setattr(skops.io, "loads", lambda *given, **_: interpreted.append(given))
    honest, mark = Path(made.trained.model_path).read_bytes(), tmp_path / "ran"
    path = tmp_path / MODEL
    path.write_bytes(attack(honest, mark))
    with pytest.raises(RegistryError):
        load_model(path)
    assert (interpreted, mark.exists()) == ([], False)
    assert sorted(one.name for one in tmp_path.iterdir()) == [MODEL]


def test_the_honest_file_loads_and_holds_nothing_packed(made: Made) -> None:
    data = Path(made.trained.model_path).read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert hasattr(loads_model(data), "predict")


# In the registry: version 1 serves, version 2 waits to be promoted.


@pytest.fixture(scope="module")
def original(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original") / "state"
    shutil.copytree(fresh, folder)
    place = Settings(state_dir=folder, threads=1, probe="here")
    moved(a_version(made, place, "a1"), place, "d1")
    a_version(made, place, "a2")
    return folder


@pytest.fixture
def two(original: Path, place: Settings) -> list[Version]:
    copy_place(original, place)
    return [registry.find_version("churn", number, settings=place) for number in (1, 2)]


def forged(version: Version, place: Settings, **content: bytes) -> Version:
    """Return the version after files were replaced, manifest and the registry's digest to match."""
    folder = files_of(version)
    raw = json.loads((folder / MANIFEST).read_text())
    for name, data in content.items():
        path = folder / name.replace("__", ".")
        path.unlink()
        path.write_bytes(data)
        raw["files"][path.name] = digest_of(data)
    (folder / MANIFEST).write_text(json.dumps(raw))
    return vouched(version, place)


def vouched(version: Version, place: Settings) -> Version:
    """Return the version after registry and store were made to hold the digest that its files have now."""
    digest = digest_of((files_of(version) / MANIFEST).read_bytes())
    open_client(place).set_model_version_tag("churn", str(version.number), registry.TAG_DIGEST, digest)
    engine = open_store(place)
    catalog.note_bundle(engine, "churn", "forged", digest, at=LATER)
    with writing(engine) as connection:
        connection.execute(versions.update().where(versions.c.number == version.number).values(digest=digest))
    return registry.find_version("churn", version.number, settings=place)


def nothing_moved(place: Settings) -> bool:
    rows = [(row.action, row.to_version) for row in ledger.history(open_store(place), "churn")]
    found = registry.find_champion("churn", settings=place)
    return rows == [("promoted", 1)] and found is not None and found.number == 1


@attacks
def test_a_version_forged_in_store_and_registry_is_not_promoted(
    attack: Callable[[bytes, Path], bytes], two: list[Version], place: Settings, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    honest = (files_of(two[1]) / MODEL).read_bytes()
    version = forged(two[1], place, model__skops=attack(honest, mark))
    with pytest.raises((RegistryError, NotServable)):
        moved(version, place, "d2")
    assert nothing_moved(place)
    assert not mark.exists()
    assert not list((place.root / "versions").glob(".part-*")), "no copy of it is left"


def test_the_list_of_types_in_the_artifact_itself_is_not_asked(
    two: list[Version], place: Settings, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    hostile = partial_of_a_command(b"", mark)
    description = (files_of(two[1]) / "MLmodel").read_text()
    named = sorted(skops.io.get_untrusted_types(data=hostile))
    assert "posix.system" in named
    trusted = "".join(f"    - {name}\n" for name in named)
    trusting = description.replace("skops_trusted_types:\n", f"skops_trusted_types:\n{trusted}", 1)
    assert "posix.system" in trusting
    version = forged(two[1], place, model__skops=hostile, MLmodel=trusting.encode())
    with pytest.raises((RegistryError, NotServable), match=r"functools\.partial of posix\.system"):
        moved(version, place, "d2")
    assert not mark.exists()


def test_a_spec_in_the_artifact_does_not_name_the_classes_to_trust(
    two: list[Version], place: Settings
) -> None:
    spec = json.loads((files_of(two[1]) / SPEC).read_text())
    spec["estimator"]["preprocess"] = "antigravity:fly"
    sys.modules.pop("antigravity", None)
    version = forged(two[1], place, spec__json=json.dumps(spec).encode())
    try:
        moved(version, place, "d2")  # the model itself is honest, so it may serve
    except (RegistryError, NotServable):
        assert nothing_moved(place)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", [MODEL, GOLDEN, MANIFEST, SPEC])
def test_with_a_wrong_digest_nothing_is_interpreted(
    name: str, two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr(models, "loads_model", lambda *given, **_: read.append(given))
    monkeypatch.setattr(registry, "shared_model", lambda *given, **_: read.append(given))
    for version in two:
        path = files_of(version) / name
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RegistryError):
        register.champion.fn("churn", settings=place)
    with pytest.raises(RegistryError):
        moved(two[1], place, "d2")
    assert read == []
    assert nothing_moved(place)


def test_the_ledger_remembers_the_digest_when_store_and_registry_are_forged(
    two: list[Version], place: Settings
) -> None:
    forged(two[0], place, reference__json=b"{}")
    with pytest.raises(RegistryError, match="promoted as"):
        register.champion.fn("churn", settings=place)


def test_a_moved_alias_serves_nobody_and_says_what_to_do(
    two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr(registry, "shared_model", lambda *given, **_: read.append(given))
    open_client(place).set_registered_model_alias("churn", "champion", "2")
    with pytest.raises(RegistryError) as caught:
        register.champion.fn("churn", settings=place)
    assert "version 2 serving while the ledger says 1" in str(caught.value)
    assert "promote the version that should serve, with a reason" in caught.value.todo
    assert read == []


def test_a_file_that_points_elsewhere_is_refused(two: list[Version], place: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    path = files_of(two[1]) / GOLDEN
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(RegistryError) as caught:
        moved(two[1], place, "d2")
    assert "of somebody else" not in str(caught.value)
    assert nothing_moved(place)


@pytest.mark.parametrize("name", ["../../../escape", "/etc/escape", "a/b", ".hidden", "manifest.json", ""])
def test_a_manifest_that_names_a_place_outside_is_refused_before_anything_is_fetched(
    name: str, two: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    real = registry._download

    def watched(version: Version, what: str, folder: Path) -> None:
        fetched.append(what)
        real(version, what, folder)

    monkeypatch.setattr(registry, "_download", watched)
    path = files_of(two[1]) / MANIFEST
    raw = json.loads(path.read_text())
    raw["files"][name] = "0" * 64
    path.write_text(json.dumps(raw))
    with pytest.raises(RegistryError, match="unsafe file name"):
        moved(vouched(two[1], place), place, "d2")
    assert fetched == [MANIFEST]
    assert nothing_moved(place)
