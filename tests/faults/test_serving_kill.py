"""Whatever is killed or cut off: each acknowledged answer is in the store, and none is twice."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from serving.app import create_app
from tasks.settings import Settings
from tasks.store.engine import open_store, reading
from tasks.store.schema import predictions
from tests.faults.load import Child, Cut, Load, ended, until
from tests.serving.running import running
from tests.serving.test_app import promoted
from tests.stores import fresh_url
from tests.versions import Made, set_up


def in_store(place: Settings) -> set[str]:
    with reading(open_store(place)) as connection:
        found = list(connection.execute(sa.select(predictions.c.prediction_id)).scalars())
    assert len(found) == len(set(found))
    return set(found)


def killed_often(made: Made, place: Settings, *, kills: int, least: int, rows: int) -> Load:
    """Return the load of an app that was killed so often, each time after so many answers more."""
    promoted(made, place)
    chance, child = random.Random(1), Child(place)
    with ended(child), Load(child.url, rows=rows) as load:
        for _ in range(kills):
            had = len(load.kept)
            until(lambda had=had: len(load.kept) - had > least // (kills + 1), 300)
            time.sleep(chance.uniform(0, 0.05))
            child.kill()
            child.start()
        until(lambda: len(load.kept) >= least, 300)
    return load


def check(load: Load, place: Settings) -> None:
    stored = in_store(place)
    assert load.kept
    assert not load.kept - stored, f"{len(load.kept - stored)} acknowledged answers are lost"
    assert load.doubled == 0


def test_no_acknowledged_answer_is_lost_when_the_app_is_killed(made: Made, place: Settings) -> None:
    check(killed_often(made, place, kills=3, least=3_000, rows=20), place)


@pytest.mark.slow
def test_no_acknowledged_answer_of_100_000_is_lost_over_20_kills(made: Made, place: Settings) -> None:
    check(killed_often(made, place, kills=20, least=100_000, rows=100), place)


@pytest.fixture
def far(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Settings, fresh: Path
) -> Iterator[tuple[Settings, Cut]]:
    """A place whose store is a Postgres at the end of a line that can be cut."""
    set_up(settings, fresh)
    with fresh_url("postgres", request, tmp_path) as url, tempfile.TemporaryDirectory(prefix="cut") as near:
        server = sa.make_url(url)
        cut = Cut(Path(str(server.query["host"])) / ".s.PGSQL.5432", Path(near))
        cut.join()
        through = server.update_query_dict({"host": near}).render_as_string(hide_password=False)
        try:
            yield settings.model_copy(update={"store": SecretStr(through)}), cut
        finally:
            cut.cut()


@pytest.mark.parametrize("way", ["refuse", "spool"])
def test_no_acknowledged_answer_is_lost_when_the_database_goes_and_comes_back(
    made: Made, far: tuple[Settings, Cut], way: Literal["refuse", "spool"]
) -> None:
    place, cut = far[0].model_copy(update={"log_outage": way}), far[1]
    promoted(made, place)
    with running(create_app(["churn"], place)) as client, Load(str(client.base_url), rows=5) as load:
        for _ in range(2):
            had = len(load.kept)
            until(lambda had=had: len(load.kept) > had + 100)
            cut.cut()
            seen = load.statuses.copy()
            until(lambda seen=seen: (load.statuses - seen).total() > 20)
            cut.join()
        had = len(load.kept)
        until(lambda: len(load.kept) > had + 100)
        until(lambda: "evergreen_log_waiting_rows 0.0" in client.get("/metrics").text)
    assert set(load.statuses) == ({200} if way == "spool" else {200, 503})
    check(load, place)
