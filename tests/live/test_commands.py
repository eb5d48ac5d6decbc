"""What `make up`, `make status` and `make down` say and leave alone, without a server."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from deployments.local import deploying
from deployments.local.deploying import counted, look_again
from deployments.local.place import Place
from deployments.local.record import Record, only_one, read_record
from deployments.up import detach, main
from tests.live.live import ROOT, live_place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a folder of a user, the working directory, where nothing was ever started."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    return Place(tmp_path, tmp_path / ".evergreen")


def test_asking_leaves_a_folder_as_it_was(place: Place) -> None:
    assert main(["status"]) == 3
    assert main(["down"]) == 0
    assert list(place.folder.iterdir()) == []


def test_a_second_start_in_the_background_leaves_the_log_of_the_first(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.logs.mkdir(parents=True)
    log = place.logs / "up.log"
    log.write_text("of the first\n")
    with only_one(place):
        assert detach(place, ["--detach"]) == 2
    assert "up already" in capsys.readouterr().err
    assert log.read_text() == "of the first\n"


def test_ctrl_c_while_it_starts_in_the_background_ends_it(tmp_path: Path) -> None:
    up = (sys.executable, str(ROOT / "deployments/up.py"))
    with live_place(tmp_path, XDG_RUNTIME_DIR=str(tmp_path)) as live:
        place = Place(live.folder, live.state)
        for _ in range(3):
            started = live.start("up", *up, "--detach", "--no-deploy")
            live.wait(lambda: (found := read_record(place)) and found.services, 60, "the server")
            record = read_record(place)
            assert record is not None
            started.send_signal(signal.SIGINT)
            if ended := started.wait(60):
                break
            live.run(*up, "down")  # it had started already when the signal came: once more
            (tmp_path / "up.log").unlink()
        assert ended == 130
        assert not record.keeper.is_alive()
        assert not [one for one in record.services if one.identity.is_alive()]
        assert (tmp_path / "up.log").read_text() == "ending what was started\n"


@pytest.mark.parametrize("words", [["up"], ["up", "--detach"], ["status"], ["down"]])
def test_a_wrong_setting_is_named_in_one_line(
    place: Place, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "prefect.yaml").touch()
    monkeypatch.setenv("EVERGREEN_LAUNCH", "bogus")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("SpecError: found a wrong EVERGREEN_LAUNCH; expected 'auto', 'inline'")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("words", [["up"], ["up", "--detach"], ["status"], ["down"]])
def test_a_state_folder_that_is_closed_is_named_in_one_line(
    place: Place, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "prefect.yaml").touch()
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(place.folder / "prefect.yaml" / "below"))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"StoreError: found the state folder {place.folder}/prefect.yaml/below closed")
    assert len(said.splitlines()) == 1


def test_a_state_folder_that_may_not_be_written_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "prefect.yaml").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, as in CI, may write everywhere
    assert main(["up"]) == 2
    assert "StoreError: found the state folder" in capsys.readouterr().err


def test_the_table_counts_the_deployments_of_each_model(place: Place) -> None:
    assert counted([str(ROOT / "prefect.yaml")]).startswith("8 of demo (")
    file = place.folder / "mine.yaml"
    file.write_text("deployments: [{name: a}, {name: b}, {name: a}]")
    assert counted(["mine.yaml"]) == "2 of a, 1 of b (mine.yaml)"
    file.write_text("deployments: 1")
    assert counted(["mine.yaml"]) == "those of mine.yaml"


@pytest.mark.parametrize(("code", "failed"), [(0, False), (3, True), (2, True)])
def test_a_failed_deploy_is_told_until_its_files_are_deployed(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: int, failed: bool
) -> None:
    said = f"import os, sys; sys.exit({code} if sys.argv[1:] == ['--check'] else 9)"
    monkeypatch.setattr(deploying, "_command", lambda _: (sys.executable, "-c", said))
    record = Record("t", 1, "1", "http://127.0.0.1:9/api", True, "FAILED, see", True, ["none.yaml"])
    look_again(place, record)
    assert record.failed is failed
    assert record.deployed.startswith("FAILED" if failed else "those of none.yaml, after a first try")
