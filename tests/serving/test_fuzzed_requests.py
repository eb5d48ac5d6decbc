"""Ten thousand requests that nobody would write by hand, none of them answered with 5xx."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.app import create_app
from serving.body import BadBody, parse_json
from tasks.settings import Settings
from tests.serving.asgi import JSON, Driver, driven
from tests.serving.test_app import ROW, promoted
from tests.versions import Made, set_up

PATH = "/predict/churn"
ONE = json.dumps({"rows": [ROW]}).encode()


@pytest.fixture(scope="module")
def driver(made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """An app with one promoted version; it looks for another once an hour."""
    folder = tmp_path_factory.mktemp("fuzzed") / "state"
    place = set_up(Settings(state_dir=folder, threads=1, probe="here"), fresh)
    promoted(made, place)
    with driven(create_app(["churn"], place, poll_seconds=3600)) as driver:
        yield driver


SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([2**63, -(2**63) - 1, 1e308, "\0", "\ud800", "NaN", "9" * 30, 10**300, 5e-324, -0.0]),
)  # fmt: skip
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NAMES = st.sampled_from([*ROW, "event_id", "event_time", "spend_usd", "", "\0", "__class__", "\ud800"])
ROWS = st.one_of(
    st.dictionaries(NAMES | st.text(max_size=8), VALUE, max_size=8),
    st.dictionaries(NAMES, SCALAR, max_size=5).map(lambda some: {**ROW, **some}),
    VALUE,
)  # fmt: skip
REQUEST = st.one_of(st.fixed_dictionaries({"rows": st.lists(ROWS, max_size=4)}), VALUE)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(requests=st.lists(REQUEST, min_size=1, max_size=10), ascii_only=st.booleans())
def test_no_request_that_hypothesis_finds_is_answered_with_5xx(
    driver: Driver, requests: list[Any], ascii_only: bool
) -> None:
    sent = [json.dumps(one, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for one in requests]
    found = driver.ask_all({"path": PATH, "body": one} for one in sent)
    assert {one.status for one in found} <= {200, 422}, [
        (one.status, one.body[:200], raw) for one, raw in zip(found, sent, strict=True) if one.status >= 500
    ]
    for answer in found:
        assert answer.json


def test_ten_thousand_mutated_requests_give_no_5xx(driver: Driver) -> None:
    rng = random.Random(7)
    met: Counter[int] = Counter()
    for start in range(0, 10_000, 500):
        requests = [mutated(rng) for _ in range(500)]
        for one, answer in zip(requests, driver.ask_all(requests), strict=True):
            assert 200 <= answer.status < 500, (start, one, answer.body[:300])
            assert answer.status == 200 or answer.json["detail"]
            met[answer.status] += 1
    assert {200, 400, 404, 405, 415, 422} <= set(met)
    assert sum(met.values()) - met[200] > 9_000
    assert driver.ask(PATH, ONE).status == 200


PIECES = [
    b"", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\",
    b"\\u", b"\\ud83d", b"\0", b"\xff", b"NaN",
    b"1e999", b"-", b"null", b"true", b'"tenure"', b"9" * 40,
    b"\xef\xbb\xbf", b'{"rows":', b"0x1F", b"\xed\xa0\x80",
]  # fmt: skip


LABEL = {"key": "e-1", "event_time": "2026-02-01T10:00:00Z", "label": 1, "known_at": "2026-02-02T10:00:00Z"}


def mutated(rng: random.Random) -> dict[str, Any]:
    """Return a good request after one to four things were done to it; seldom it stays good."""
    row = {**ROW, "event_id": "e", "event_time": "2026-02-01T10:00:00Z"}
    path, whole = rng.choice((
        (PATH, {"rows": [row]}), (PATH, {"rows": [row, row]}), (PATH, {"rows": [ROW]}),
        ("/labels/churn", {"labels": [LABEL, {"request_id": "r", "index": 0, "label": 0}]}),
        ("/explain/churn/r/0", {"row": ROW}),
    ))  # fmt: skip
    raw = bytearray(json.dumps(whole).encode())
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
        what = rng.randrange(5)
        if what == 0:
            raw[at : at + rng.randint(0, 3)] = rng.choice(PIECES)
        elif what == 1 and raw:
            raw[min(at, len(raw) - 1)] = rng.randrange(256)
        elif what == 2:
            raw[at:to] = raw[at:to] * rng.choice((0, 2, 2, 50))
        elif what == 3:
            raw[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
        else:
            raw[at:to] = raw[at:to][::-1]
    one: dict[str, Any] = {"path": path, "body": bytes(raw)}
    if rng.random() < 0.05:
        one["headers"] = {rng.choice(("content-type", "content-length", "x-request-id", "x")): bytes(
            rng.randrange(256) for _ in range(rng.randint(0, 12)))}  # fmt: skip
        one["headers"].setdefault("content-type", "application/json")
    if rng.random() < 0.05:
        one["path"] = "/" + "".join(chr(rng.randrange(1, 0x300)) for _ in range(rng.randint(0, 12)))
    if rng.random() < 0.02:
        one["method"] = rng.choice(("GET", "PUT", "HEAD", "OPTIONS", "X"))
    if rng.random() < 0.02:
        one["ends"] = "early"
    return one


@settings(max_examples=200, deadline=None, derandomize=True)
@given(value=VALUE)
def test_what_is_read_of_a_body_is_what_json_reads(value: Any) -> None:
    raw = json.dumps(value).encode()
    try:
        found = parse_json(raw)
    except BadBody:
        text = raw.decode()
        assert any(bad in text for bad in ("NaN", "Infinity", "\\ud"))
    else:
        assert found == json.loads(raw)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_schemathesis_finds_no_5xx_on_our_own_description(driver: Driver, mode: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    schema = schemathesis.openapi.from_dict(driver.ask("/openapi.json", method="GET").json)
    met: Counter[int] = Counter()
    for operation in schema.get_all_operations():
        way = operation.ok()
        if mode == "NEGATIVE" and way.path in PLAIN:  # nothing to get wrong
            continue

        @settings(
            max_examples=MOST if "predict" in way.path else 100,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=way.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
        def asked(case: Any) -> None:
            given = {
                name: str(value).encode("utf-8", "surrogatepass") for name, value in case.headers.items()
            }
            try:
                sent = json.dumps(case.body).encode()
            except TypeError:  # nothing to send
                sent = b""
            path = unquote(case.formatted_path)
            answer = driver.ask(path, sent, method=case.method, headers={**JSON, **given})
            met[answer.status] += 1
            assert answer.status < 500 or path == "/ready", (path, sent[:300], answer.body[:300])

        asked()
    assert sum(met.values()) > MOST, met
    assert (met[200] if mode == "POSITIVE" else met[422]) > MOST / 3, met


PLAIN = {"/health", "/ready", "/models", "/metrics"}
MOST = 1500
