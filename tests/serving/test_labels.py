"""Labels told over HTTP: each finds its prediction, telling twice is telling once, history stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from serving.app import create_app
from serving.given_labels import MOST_LABELS, check_labels
from serving.request import BadRows
from serving.routes import labels
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.store.engine import open_store
from tasks.store.labels import matured
from tasks.store.told import NO_SUCH
from tasks.versions.move import move
from tests.serving.running import running
from tests.versions import LATER, SPEC_, Made, a_version, set_up

EVER = Window(LATER.replace(year=2000), LATER.replace(year=2999))
ROW: dict[str, Any] = {"tenure": 12.0, "spend": 30.0, "plan": "basic", "region": "north"}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def place_of_client(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("labels") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    version = a_version(made, place, "a1")
    move(SPEC_, version, actor="ann", reason="good", decision_id="d-a1", as_of=LATER, settings=place)
    return place


@pytest.fixture(scope="module")
def client(place_of_client: Settings) -> Iterator[httpx.Client]:
    with running(create_app(["churn"], place_of_client)) as client:
        yield client


def predicted(client: httpx.Client, *rows: dict[str, Any]) -> str:
    given = client.post("/predict/churn", json={"rows": [ROW | row for row in rows]})
    assert given.status_code == 200, given.text
    return str(given.json()["request_id"])


def told(client: httpx.Client, *items: object, status: int = 200) -> Any:
    given = client.post("/labels/churn", json={"labels": list(items)})
    assert given.status_code == status, given.text
    return given.json()


def outcomes(client: httpx.Client, *items: object) -> list[str]:
    return [one["outcome"] for one in told(client, *items)["labels"]]


def standing(place: Settings, request: str = "") -> dict[str, Any]:
    frame = matured(open_store(place), "churn", EVER)
    frame = frame[frame["prediction_id"].str.startswith(request)]
    return dict(zip(frame["prediction_id"], frame["label"], strict=True))


def test_labels_find_their_predictions_by_every_way(client: httpx.Client, place_of_client: Settings) -> None:
    at = "2026-02-01T10:00:00+01:00"
    request = predicted(client, {}, {}, {"event_id": "e-1", "event_time": at}, {"event_id": "e-2"})
    found = outcomes(
        client,
        {"prediction_id": f"{request}/0", "label": 1},
        {"request_id": request, "index": 1, "label": 0},
        {"key": "e-1", "event_time": "2026-02-01T09:00:00Z", "label": 1, "known_at": "2026-02-03T00:00:00Z"},
        {"key": "e-2", "label": 0},
    )
    assert found == ["new"] * 4
    expected = {f"{request}/0": 1, f"{request}/1": 0, f"{request}/2": 1, f"{request}/3": 0}
    assert standing(place_of_client, request) == expected


def test_telling_twice_is_telling_once_and_a_correction_counts(
    client: httpx.Client, place_of_client: Settings
) -> None:
    request = predicted(client, {})
    item = {"request_id": request, "index": 0, "label": 0}
    assert outcomes(client, item) == ["new"]
    assert outcomes(client, item, item) == ["same", "same"]
    assert told(client, item | {"label": 1}, item | {"label": 1})["counts"] == {"corrected": 1, "same": 1}
    assert standing(place_of_client, request) == {f"{request}/0": 1}


def test_an_unknown_id_is_refused_and_an_unknown_key_waits_for_its_prediction(
    client: httpx.Client, place_of_client: Settings
) -> None:
    found = told(client, {"prediction_id": "never/0", "label": 1}, {"key": 77, "label": 1})["labels"]
    assert found == [
        {"outcome": "refused", "problem": NO_SUCH},
        {"outcome": "kept_for_later"},
    ]
    request = predicted(client, {"event_id": 77})
    assert standing(place_of_client, request) == {f"{request}/0": 1}


def test_a_label_from_before_its_event_is_refused(client: httpx.Client) -> None:
    request = predicted(client, {"event_id": "e-9", "event_time": "2026-02-01T10:00:00Z"})
    early = {"known_at": "2026-02-01T09:00:00Z", "label": 1}
    found = outcomes(client, {"request_id": request, "index": 0} | early, {"key": "e-9"} | early)
    assert found == ["refused", "refused"]
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    assert outcomes(client, {"key": "e-9", "label": 1, "known_at": soon}) == ["new"], "a clock ahead of ours"


def test_an_item_of_many_unknown_fields_is_refused_in_few_words() -> None:
    item = {"key": "a", "label": 1} | {f"f{at}": 0 for at in range(100_000)}
    with pytest.raises(BadRows) as refused:
        check_labels([item, *([{}] * 50)], classes=(0, 1), now=NOW)
    problems = refused.value.problems
    assert [one.problem for one in problems[:5]] == ["there is no such field"] * 5
    assert len(problems) <= 20
    assert sum(one.row == 0 for one in problems) == 5


@pytest.mark.parametrize(
    ("item", "field", "words"),
    [
        ({"key": "a", "label": None}, "label", "one of ['0', '1']"),
        ({"key": "a", "label": 2}, "label", "one of ['0', '1']"),
        ({"key": "a", "label": "1"}, "label", "one of ['0', '1']"),
        ({"key": "a", "label": True}, "label", "one of ['0', '1']"),
        ({"key": "a", "label": [1]}, "label", "one of ['0', '1']"),
        ({"key": "a"}, "label", "missing"),
        ({"label": 1}, None, "give prediction_id"),
        ({"key": "a", "prediction_id": "b", "label": 1}, None, "give prediction_id"),
        ({"request_id": "a", "label": 1}, "index", "belong together"),
        ({"key": "a", "index": 0, "label": 1}, "index", "belong together"),
        ({"request_id": "a", "index": -1, "label": 1}, "index", "whole number"),
        ({"request_id": "a", "index": True, "label": 1}, "index", "whole number"),
        ({"request_id": "a", "index": "0", "label": 1}, "index", "whole number"),
        ({"prediction_id": "a", "event_time": "2026-01-01T00:00:00Z", "label": 1}, "event_time", "a key"),
        ({"key": "", "label": 1}, "key", "text of 1"),
        ({"key": "x" * 1001, "label": 1}, "key", "text of 1"),
        ({"key": "a\0b", "label": 1}, "key", "NUL"),
        ({"key": 10**30, "label": 1}, "key", "smaller"),
        ({"key": True, "label": 1}, "key", "text of 1"),
        ({"key": 1.5, "label": 1}, "key", "text of 1"),
        ({"key": "a", "label": 1, "known_at": "2999-01-01T00:00:00Z"}, "known_at", "with its zone"),
        ({"key": "a", "label": 1, "known_at": "2199-01-01T00:00:00Z"}, "known_at", "future"),
        ({"key": "a", "label": 1, "known_at": "2026-01-01T00:00:00"}, "known_at", "with its zone"),
        ({"key": "a", "label": 1, "known_at": 5}, "known_at", "with its zone"),
        ({"key": "a", "label": 1, "known_at": "0001-01-01T00:00:00+23:00"}, "known_at", "with its zone"),
        ({"key": "a", "label": 1, "lable": 1}, "lable", "no such field"),
        (["a", 1], None, "an object"),
    ],
)  # fmt: skip
def test_a_wrong_label_is_refused_with_its_field_and_nothing_is_kept(
    client: httpx.Client, place_of_client: Settings, item: object, field: str | None, words: str
) -> None:
    before = len(standing(place_of_client))
    problems = told(client, {"key": "fine", "label": 1}, item, status=422)["detail"]
    assert any(one["row"] == 1 and one["field"] == field and words in one["problem"] for one in problems)
    assert len(standing(place_of_client)) == before


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"labels": []}', b'{"labels": 3}', b'{"labels": [{}], "more": 1}', b"{", b"\xff",
        b'{"labels": [{"key": "a", "label": NaN}]}', b'{"labels": [{"key": "a", "key": "b", "label": 1}]}',
        b'{"labels": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)  # fmt: skip
def test_a_body_that_holds_no_labels_is_refused(client: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert client.post("/labels/churn", content=body, headers=headers).status_code == 422


def test_too_many_labels_are_refused_and_so_is_another_model(client: httpx.Client) -> None:
    told(client, *[{"key": "a", "label": 1}] * (MOST_LABELS + 1), status=422)
    given = client.post("/labels/nobody", json={"labels": [{"key": "a", "label": 1}]})
    assert given.status_code == 404


def test_a_store_that_does_not_answer_is_503_and_the_label_can_be_told_again(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object, **__: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("gone"))

    item = {"key": "after the outage", "label": 1}
    monkeypatch.setattr(labels, "hear_told", down)
    assert "ask again" in told(client, item, status=503)["detail"]
    monkeypatch.undo()
    assert outcomes(client, item) == ["kept_for_later"]


def test_labels_are_counted_by_what_became_of_them(client: httpx.Client) -> None:
    def refused() -> float:
        lines = client.get("/metrics").text.splitlines()
        name = 'evergreen_labels_total{model="churn",outcome="refused"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = refused()
    outcomes(client, {"prediction_id": "never/1", "label": 1}, {"prediction_id": "never/2", "label": 1})
    assert refused() == before + 2


def test_classes_of_every_type_are_known_by_type_and_kept_as_training_knew_them() -> None:
    def kept(label: object, classes: list[Any] | None) -> Any:
        return check_labels([{"key": "a", "label": label}], classes=classes, now=NOW)[0].label

    assert kept("yes", ["no", "yes"]) == "yes"
    assert kept(True, [False, True]) is True
    assert isinstance(kept(1.0, [0, 1]), int)
    assert kept(2.5, None) == 2.5
    for label, classes in [(1, [False, True]), ("1", [0, 1]), (True, None), ("2.5", None), (None, None)]:
        with pytest.raises(BadRows):
            kept(label, classes)
    for label in (float("nan"), float("inf"), 10**400):
        with pytest.raises(BadRows):
            kept(label, None)


def test_only_the_first_problems_are_told() -> None:
    with pytest.raises(BadRows) as caught:
        check_labels([{"label": 9}] * 900, classes=[0, 1], now=NOW)
    assert 20 <= len(caught.value.problems) <= 22


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01", "9999-12-31T23:59:59-23:59", 10**400, -(2**63)])
)
_FIELDS = st.sampled_from(
    ["prediction_id", "request_id", "index", "key", "event_time", "label", "known_at", "x", ""]
)
_ITEMS = st.dictionaries(_FIELDS, _SCALARS | st.lists(_SCALARS, max_size=2), max_size=5) | _SCALARS


@given(st.lists(_ITEMS, min_size=1, max_size=4), st.sampled_from([None, [0, 1], ["a", "b"], [False, True]]))
@effort(max_examples=120, deadline=None)
def test_whatever_is_told_is_taken_whole_or_refused(items: list[object], classes: list[Any] | None) -> None:
    try:
        found = check_labels(items, classes=classes, now=NOW)
    except BadRows as err:
        assert err.problems
        return
    assert len(found) == len(items)
    for one in found:
        assert (one.prediction_id is None) != (one.key is None)
        assert classes is None or any(one.label is known for known in classes)
        assert one.known_at is None or one.known_at <= NOW + timedelta(minutes=1)
