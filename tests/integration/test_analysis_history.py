"""A notebook sees the same history whether the server runs or not, and stands in nobody's way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from analysis_kit import live_through, make_project, reach, running, serving

from orchestrator_app import connect
from orchestrator_app.connection import tables as history_module
from orchestrator_app.errors import NoServerError, NotFoundError, OrchError, SettingsError, StoreError, UsageError
from orchestrator_app.model import Board
from orchestrator_app.settings import Project

FRAMES = ("units", "transitions", "time_in_status", "phase_duration", "events", "attention", "usage", "throughput")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def token(project: Project) -> str:
    return (project.state / "token").read_text().strip()


def same_boards(one: Board, other: Board) -> bool:
    return (
        one.seq == other.seq
        and dict(one.units) == dict(other.units)
        and dict(one.attention) == dict(other.attention)
        and one.counts == other.counts
    )


def settled(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the lengths that grow while one looks."""
    return frame[frame.left_at.notna()] if "left_at" in frame else frame


def test_live_and_stopped_give_the_same_frames_and_the_same_board(
    project: Project, wait_until: Callable[..., Any]
) -> None:
    with serving(project) as server:
        live_through(server.orchestrator)
        with connect(project.root) as by_path, connect(server.url, token(project)) as by_url:
            wait_until(lambda: same_boards(by_path.board, server.orchestrator.board))
            live = {name: getattr(by_path, name)() for name in FRAMES}
            far = {name: getattr(by_url, name)() for name in FRAMES}
            assert by_path.live and by_url.live and by_path.fault is None
    stopped = connect(project.root)

    assert not stopped.live
    assert same_boards(stopped.board, by_path.board)
    for name in FRAMES:
        frame = getattr(stopped, name)()
        assert len(frame) > 0, name
        for other in (live[name], far[name]):
            assert dict(frame.dtypes) == dict(other.dtypes), name
            pd.testing.assert_frame_equal(settled(frame), settled(other))


def test_the_frames_say_what_happened(project: Project) -> None:
    with running(project) as orchestrator:
        live_through(orchestrator)

    history = connect(project.root)

    units = history.units().set_index("name")
    assert dict(units.status) == {
        **dict.fromkeys(("build", "check", "slow", "choose"), "DONE"),
        **dict.fromkeys(("broken", "unsure"), "NEEDS_ATTENTION"),
    }
    assert units.loc["check", "after"] == ["build"]
    assert (units.loc["build", "priority"], units.loc["build", "labels"]) == (5, ["core"])
    story = history.story("choose")
    assert list(story.trigger)[:2] == ["submit", "start"] and list(story.to_status)[-1] == "DONE"
    assert list(story.version) == list(range(1, len(story) + 1))
    assert {"ask", "answer"} <= set(story.trigger)
    assert "operator:ben" in set(story.actor)
    attempts = history.phase_duration().set_index(["unit", "phase"])
    assert attempts.loc[("slow", "WORK"), "seconds"].max() > 0.5
    assert attempts.loc[("broken", "WORK"), "ended_by"] == "fail"
    attention = history.attention().set_index("unit")
    assert attention.loc["choose", "resolved_by"] == "operator:ben"
    assert attention.loc["choose", "detail"]["options"] == ["postgres", "sqlite"]
    assert pd.isna(attention.loc["unsure", "resolved_at"])
    usage = history.usage()
    assert (usage.input_tokens.sum(), usage.usd.sum()) == (1200, 0.25)
    notes = history.events("build")
    assert notes[notes.type == "note"].message.to_list() == ["a <b>tag</b>"]
    assert history.throughput().done.sum() == 4
    stays = history.time_in_status()
    assert set(stays[stays.left_at.isna()].unit) == set(units.index)
    answer = history.query("SELECT status, count(*) AS units FROM unit GROUP BY status ORDER BY units DESC")
    assert answer.to_dict("list") == {"status": ["DONE", "NEEDS_ATTENTION"], "units": [4, 2]}


def test_the_dtypes_do_not_depend_on_the_rows(project: Project) -> None:
    with running(project):
        pass
    empty = connect(project.root)
    dtypes = {name: dict(getattr(empty, name)().dtypes) for name in FRAMES}
    with running(project) as orchestrator:
        live_through(orchestrator)

    full = connect(project.root)

    assert all(getattr(empty, name)().empty for name in FRAMES)
    assert {name: dict(getattr(full, name)().dtypes) for name in FRAMES} == dtypes
    assert {str(dtype) for dtype in dtypes["transitions"].values()} == {
        "Int64", "string", "object", "datetime64[us, UTC]"
    }  # fmt: skip


def test_transitions_since_a_number_or_a_time(project: Project) -> None:
    with running(project) as orchestrator:
        live_through(orchestrator)
    history = connect(project.root)
    whole = history.transitions()
    middle = whole.iloc[len(whole) // 2]

    assert history.transitions(since=int(middle.seq)).seq.min() > middle.seq
    for time in (middle.occurred_at.to_pydatetime(), middle.occurred_at.isoformat()):
        assert list(history.transitions(since=time).seq) == list(whole[whole.occurred_at >= middle.occurred_at].seq)
    assert history.transitions(since=datetime.now(UTC) + timedelta(days=1)).empty
    with pytest.raises(UsageError, match=r"^since is 'yesterday': give a seq, a datetime, or a text as 2026"):
        history.transitions(since="yesterday")
    with pytest.raises(UsageError):
        history.transitions("x' OR 1=1 --")
    with pytest.raises(NotFoundError, match=r"^there is no unit 'nobody': units.. lists those there are$"):
        history.story("nobody")


def test_a_frame_larger_than_one_answer_comes_in_parts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(project) as orchestrator:
        live_through(orchestrator)
    history = connect(project.root)
    whole = {name: getattr(history, name)() for name in FRAMES}

    monkeypatch.setattr(history_module, "PAGE", 12)

    for name in FRAMES:
        pd.testing.assert_frame_equal(settled(getattr(history, name)()), settled(whole[name]))
    with pytest.raises(OrchError, match=r"^the answer is larger than 12 rows or 64 MB"):
        history.query("FROM transition")


def test_the_board_of_a_running_server_is_alive(project: Project, wait_until: Callable[..., Any]) -> None:
    with serving(project) as server, connect(project.root) as history:
        seen: list[tuple[str, str]] = []
        batches: list[int] = []
        history.board.param.watch(lambda event: seen.append((event.new.unit, str(event.new.to_status))), "transition")
        history.board.watch(lambda records: batches.extend(record.seq for record in records))
        units = [{"name": f"unit-{number}"} for number in range(60)]
        units += [{"name": f"noisy-{number}"} for number in range(20)]
        for unit in units[60:]:
            (project.root / "agents" / f"{unit['name']}.WORK").write_text(
                'for n in 1 2 3 4 5; do echo \'{"type":"note","message":"n"}\' >> "$ORCH_EVENTS"; done\n'
            )

        server.orchestrator.request("submit", units=units).result(20)
        reach(server.orchestrator.board, lambda: server.orchestrator.board.counts["DONE"] == len(units))
        face = wait_until(lambda: same_boards(history.board, server.orchestrator.board)) and history.board.unit(
            "unit-1"
        )

        assert batches == list(range(1, history.board.seq + 1))
        assert seen.count(("unit-1", "DONE")) == 1
        assert face.status == "DONE"


def test_a_mirror_finds_its_server_again(project: Project, wait_until: Callable[..., Any]) -> None:
    with serving(project) as server:
        history = connect(project.root)
        server.orchestrator.request("submit", units=[{"name": "one"}]).result(20)
    wait_until(lambda: history.fault)
    with pytest.raises(NoServerError, match=r"has ended: connect again to read its files$"):
        history.units()

    with serving(project) as server:
        server.orchestrator.request("submit", units=[{"name": "two"}]).result(20)
        wait_until(lambda: history.fault is None and same_boards(history.board, server.orchestrator.board))
        assert list(history.units().name) == ["one", "two"]
        history.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "orch-mirror"]


def test_a_history_of_a_stopped_project_blocks_no_server(project: Project) -> None:
    with running(project) as orchestrator:
        orchestrator.request("submit", units=[{"name": "one"}]).result(20)
    history = connect(project.state)

    with running(project) as orchestrator:
        orchestrator.request("submit", units=[{"name": "two"}]).result(20)

        assert list(history.units().name) == ["one"]  # as it was when it was opened
        assert list(history.board.units) == ["one"]


def test_connect_finds_the_project_as_the_command_line_does(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running(project):
        pass
    monkeypatch.chdir(project.root / "agents")
    assert connect().title == str(project.root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCH_PROJECT", str(project.root))
    assert connect().title == str(project.root)


def test_what_can_not_be_read_is_said_in_one_line(project: Project, tmp_path: Path) -> None:
    for arguments, kind, text in (
        ((tmp_path,), SettingsError, "is not a project: it has no orchestrator.toml; run `orch init` there"),
        ((project.root,), StoreError, "has no log yet: start it with `orch serve`$"),
        (("http://127.0.0.1:9",), UsageError, r"^a URL needs a token: connect\(url, token="),
        (("http://127.0.0.1:9", "t"), NoServerError, "^the server at http://127.0.0.1:9 doesn't answer"),
        (("ftp://127.0.0.1", "t"), UsageError, "is not the URL of a server"),
        ((project.root, "t"), UsageError, "^a token belongs to a URL"),
    ):
        with pytest.raises(kind, match=text) as caught:
            connect(*arguments)
        assert "\n" not in str(caught.value)
    with (
        serving(project) as server,
        pytest.raises(OrchError, match=r"doesn't take this token: it is in .orchestrator/token$"),
    ):
        connect(server.url, "x" * 43)


def test_a_project_that_another_process_holds_without_a_server_says_so(project: Project) -> None:
    program = (
        "import sys; from orchestrator_app.store.log import Log; from pathlib import Path\n"
        "log = Log(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(project.state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=r"is open in another process, which may be a starting server: try again$"):
            connect(project.root)
        holder.stdin.close()


def test_a_project_that_this_process_runs_without_a_server_says_so(project: Project) -> None:
    with running(project), pytest.raises(StoreError, match=r"is open in this very process: ask its orchestrator"):
        connect(project.root)


def test_the_package_offers_its_names_without_loading_what_they_need() -> None:
    program = (
        "import sys, orchestrator_app; before = set(sys.modules); print(orchestrator_app.__version__);"
        "assert not {'duckdb', 'pandas', 'param', 'panel'} & before;"
        "from orchestrator_app import Orchestrator, connect; print(Orchestrator.__name__, connect.__name__)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[1] == "Orchestrator connect"
    with pytest.raises(ImportError):
        from orchestrator_app import nothing  # noqa: F401
