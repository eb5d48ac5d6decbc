"""Whether a version itself is damaged, rather than the registry, the store or the network silent."""

from __future__ import annotations

import zipfile

from tasks.core.errors import RegistryError, RegistryUnavailable, SpecError
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.mlflow_client import open_client, registry_errors
from tasks.store.models import own_types
from tasks.store.passing import is_not_there
from tasks.store.version import Version, spec_in

# What reading bytes of another shape raises; UnicodeDecodeError and JSONDecodeError are ValueErrors.
_MISSHAPEN = (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, zipfile.BadZipFile)


def read_through(version: Version, spec: ModelSpec, place: Settings, *, is_ours: bool) -> None:
    """Return nothing when the registry's files of this version are whole, load and answer as they did.

    The local copy is not asked: who serves elsewhere reads the registry.

    Args:
        version: the version.
        spec: the model of this place.
        place: this place.
        is_ours: whether the ledger vouches for its digest, so that classes its own spec names are ours.

    Raises:
        RegistryError: when it is damaged, or cannot be read for another reason; see `is_about_version`.
    """
    with registry.downloaded(version, settings=place) as (folder, manifest):
        try:
            ours = own_types(spec_in(folder)) if is_ours else ()
            also = {*own_types(spec), *ours}
        except (ImportError, AttributeError, SpecError) as err:
            raise RegistryError(
                f"code of version {version.number} that is not here ({type(err).__name__})",
                "the module that its spec names",
                "install it in this place",
                model=version.name,
            ) from err
        registry.load_checked(folder, manifest, also=also)


def is_about_version(err: RegistryError) -> bool:
    """Tell whether this error shows the version damaged, and nothing else can be its reason.

    A digest that differs, a file that is said not to be there, a model that may not be loaded or answers
    otherwise are about the version. A timeout, a refused connection, a full memory or code that is not
    installed are not.
    """
    if isinstance(err, RegistryUnavailable):
        return False
    cause: BaseException | None = err.__cause__
    while isinstance(cause, RegistryError):
        cause = cause.__cause__
    if cause is None or isinstance(cause, _MISSHAPEN):
        return True
    return is_not_there(cause)


def is_gone(name: str, number: int, place: Settings) -> bool:
    """Tell whether the registry answers, lists versions of this model, and this one is not among them.

    Raises:
        RegistryError: when it does not answer.
    """
    client = open_client(place)
    with registry_errors("listing versions", name):
        found = [int(one.version) for one in client.search_model_versions(f"name = '{name}'")]
    return bool(found) and number not in found
