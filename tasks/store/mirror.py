"""The stages as the registry shows them: a tag on each version, an alias for the one that may serve next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tasks.settings import Settings
from tasks.store import lifecycle
from tasks.store.engine import open_store
from tasks.store.mlflow_client import open_client, registry_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
TAG_STAGE = "evergreen.stage"


def show_stages(name: str, versions: Iterable[int], *, settings: Settings) -> None:
    """Let the registry show the stage of these versions, and the newest one in staging as the challenger.

    The store decides, the registry only shows: doing it again, or late, shows what is so by then. Call it
    under the model's lock, so that what is shown last is the newest.

    Raises:
        RegistryError: when the registry does not answer.
    """
    stages = lifecycle.stages(open_store(settings), name)
    client = open_client(settings)
    with registry_errors("showing the stages", name):
        for number in sorted(set(versions) & set(stages)):
            _tag(client, name, number, stages[number])
        next_ones = [number for number, stage in stages.items() if stage == "STAGING"]
        shown = client.get_registered_model(name).aliases.get(CHALLENGER)
        if next_ones and str(shown) != str(max(next_ones)):
            client.set_registered_model_alias(name, CHALLENGER, str(max(next_ones)))
        elif not next_ones and shown is not None:
            client.delete_registered_model_alias(name, CHALLENGER)


def _tag(client: MlflowClient, name: str, number: int, stage: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.set_model_version_tag(name, str(number), TAG_STAGE, stage)
    except MlflowException as err:
        if err.error_code != "RESOURCE_DOES_NOT_EXIST":  # one that somebody deleted needs no tag
            raise
