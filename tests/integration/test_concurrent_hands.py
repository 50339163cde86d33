"""Several hands on one unit: of two requests that can't both be, the first wins and the second is told; what is sent
twice is done once; and what the scheduler does in the same moment leaves one defined end."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from hands_kit import ASKS, POSSIBLE, World

from orchestrator_app import repeats
from orchestrator_app.errors import IllegalMoveError, KeyReusedError, OrchError, StaleVersionError, UsageError
from orchestrator_app.states import Status
from orchestrator_app.testing import assert_consistent
from orchestrator_app.workspace import merge

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def promised() -> dict[str, set[str]]:
    """What docs/operating.md says: by the first request, the second ones that count too."""
    table = PAGE.read_text().partition("## Two at once")[2].partition("\n## ")[0]
    said = {}
    for first, second in re.findall(r"^\| ([a-z, ]+) \| ([a-z, ]+) \|$", table, re.MULTILINE)[1:]:
        others = set(ASKS) if second == "every other" else set(second.split(", "))
        said |= dict.fromkeys(first.split(", "), others)
    return said


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    assert world.scheduler.fault is None
    assert_consistent(world.orchestrator.log, world.board, world.subscriber)
    world.orchestrator.log.close()


def test_the_page_says_what_comes_of_every_pair_of_requests():
    assert promised().keys() == ASKS.keys()


@pytest.mark.parametrize("place", POSSIBLE)
def test_f6_of_two_requests_both_make_sense_or_the_second_is_told_who_was_first(world, place):
    possible, counts = POSSIBLE[place].split(), promised()
    alone = {f"alone-{what}": what for what in ASKS}
    pairs = {
        f"{when}-{first}-{second}": (when, first, second)
        for when in ("at-once", "later", "having-seen")
        for first in possible
        for second in possible
    }
    world.bring(place, [*alone, *pairs])
    versions = {name: world.board.row(name).version for name in pairs}
    items = {name: world.board.row(name).item for name in pairs}

    asked = {what: world.say("ana", what, name) for name, what in alone.items()}
    first = {name: world.say("ana", what, name) for name, (_, what, _) in pairs.items()}
    second = {}
    for name, (when, _, what) in sorted(pairs.items()):  # those at once come first
        if when != "at-once" and not first[name].done():
            world.step()
        more = {"version": versions[name]} if when == "having-seen" else {}
        if items[name] is not None and what not in ("cancel", "pause", "edit", "comment"):
            more["item"] = items[name]
        second[name] = world.say("bob", what, name, **more)
    world.step()

    assert [what for what in ASKS if asked[what].exception(0) is None] == possible
    for name, (when, *pair) in pairs.items():
        assert first[name].exception(0) is None, name
        refusal = second[name].exception(0)
        rows = [row for row in world.rows(name) if row["actor"] == "operator:bob"]
        if when != "having-seen" and pair[1] in counts[pair[0]]:
            assert refusal is None and rows, name
        else:
            assert isinstance(refusal, IllegalMoveError | StaleVersionError), name
            assert "ana" in str(refusal) and "\n" not in str(refusal), name
            assert re.search(r"by now|was (answered|settled) by", str(refusal)), str(refusal)
            assert rows == [], name


# -- hands and the scheduler


def test_an_answer_beside_a_cancel_reaches_no_agent(world):
    world.bring("question, agent alive", ["cancelled-first", "answered-first"])

    world.say("ana", "cancel", "cancelled-first")
    late = world.say("bob", "answer", "cancelled-first")
    early = world.say("ana", "answer", "answered-first")
    world.say("bob", "cancel", "answered-first")
    world.step()

    assert "ana cancelled it" in str(late.exception(0)) and early.exception(0) is None
    for name in ("cancelled-first", "answered-first"):
        assert world.board.row(name).status is Status.CANCELLED
        assert (name, 1) in world.executor.stopped
    assert not (world.folder / ".orchestrator" / "runs" / "cancelled-first" / "1" / "answers.jsonl").exists()


@pytest.mark.parametrize("kind", ["cancel", "pause", "restart"])
def test_an_attempt_that_ends_in_the_moment_of_a_request_counts_first(world, kind):
    world.bring("RUNNING", ["a"])
    world.executor.exits("a", 0)
    refused = world.say("ana", kind, "a")

    world.step()

    assert world.board.row("a").status is Status.DONE
    assert str(refused.exception(0)).startswith("a is DONE")
    assert world.rows("a")[-1]["trigger"] == "finish"


@pytest.mark.parametrize(("kind", "status"), [("cancel", "CANCELLED"), ("pause", "PAUSED")])
def test_an_attempt_that_ends_after_a_request_was_taken_changes_nothing_any_more(world, kind, status):
    world.bring("RUNNING", ["a"])
    world.say("ana", kind, "a")
    world.step()
    before = world.board.row("a").version

    world.executor.exits("a", 0)
    world.step()

    assert (world.board.row("a").status, world.board.row("a").version) == (status, before)


def test_an_edit_that_comes_as_the_unit_would_start_holds_for_that_start(world):
    world.bring("READY", ["a"])

    world.queue("ana", "dispatch", paused=False)
    world.queue("bob", "edit", "a", set={"after": ["other"]})
    world.step()

    assert world.board.row("a").status is Status.BLOCKED
    assert ("a", 1) not in world.executor.running


def test_of_two_that_submit_one_name_at_once_the_second_is_refused(world):
    first = world.queue("ana", "submit", units=[{"name": "a", "prompt": "ana's"}])
    second = world.queue("bob", "submit", units=[{"name": "b"}, {"name": "a", "prompt": "bob's"}])

    world.step()

    assert first.result(0)["units"] == ["a"]
    assert isinstance(second.exception(0), UsageError) and "'a' exists already" in str(second.exception(0))
    assert world.board.row("a").prompt == "ana's" and "b" not in world.board.units


def test_f6_a_unit_put_behind_one_that_finishes_in_the_same_moment_is_not_left_blocked(world):
    world.bring("RUNNING", ["a"])
    world.bring_more("conflict", ["c"])

    world.executor.exits("a", 0)
    ruling = world.queue("ana", "resolve", "c", other="a", ruling="serialize")
    world.step()

    assert ruling.exception(0) is None
    assert world.board.row("c").status is not Status.BLOCKED


def test_f7_of_two_rulings_at_once_that_close_a_cycle_the_second_is_refused(world):
    world.bring("conflict", ["a", "b"])

    first = world.queue("ana", "resolve", "a", other="b", ruling="serialize")
    second = world.queue("bob", "resolve", "b", other="a", ruling="serialize")
    world.step()

    assert first.result(0)["status"] == "BLOCKED"
    assert "would be a cycle" in str(second.exception(0))
    assert world.board.row("b").status is Status.NEEDS_ATTENTION


# -- names are for ever


@pytest.mark.parametrize("how", ["runs", "cancelled, its attempt alive", "cancelled, after a restart", "done"])
def test_f36_a_name_that_was_used_is_refused_whatever_became_of_its_unit(world, how):
    world.bring("RUNNING", ["a"])
    if how.startswith("cancelled"):
        world.ask("ana", "cancel", "a")
    elif how == "done":
        world.executor.exits("a", 0)
        world.step()
    if how.endswith("restart"):
        world.restart()
    story = world.rows("a")

    with pytest.raises(UsageError, match="a work unit 'a' exists already: choose another name"):
        world.ask("bob", "submit", units=[{"name": "a"}])

    assert world.rows("a") == story
    if how.startswith("cancelled"):
        world.executor.exits("a", 143, "stop")  # the late end of its attempt is nobody else's
        world.step()
        assert world.ask("bob", "reopen", "a")["status"] == "READY"
        assert ("a", 2) in world.executor.running


# -- sent twice


@pytest.mark.parametrize("when", ["in one step", "one step later", "after a restart of the server"])
def test_f8_a_request_that_is_sent_again_with_its_key_is_done_once_and_answered_the_same(world, when):
    world.bring("approval", ["a", "b", "c"])
    item = world.board.row("b").item
    wishes = [
        ("approve", "a", {}),
        ("see", None, {"item": item}),
        ("comment", "c", {"text": "mind the tests"}),
        ("resolve", "c", {"other": "other", "ruling": "serialize"}),
        ("submit", None, {"units": [{"name": "z", "after": ["y"]}, {"name": "y"}]}),
        ("dispatch", None, {"paused": True}),
    ]

    def send():
        return [world.queue("ana", kind, unit, key=f"key-{kind}", **args) for kind, unit, args in wishes]

    first = send()
    if when != "in one step":
        world.step()
    if when.startswith("after"):
        world.executor.exits("z") if ("z", 1) in world.executor.running else None
        world.restart()
    second = send()
    head = world.board.seq
    world.step()

    assert [each.result(0) for each in second] == [each.result(0) for each in first]
    if when != "in one step":
        made_again = world.orchestrator.rows(
            "SELECT * FROM transition WHERE seq > ? AND actor = 'operator:ana'", [head]
        )
        assert made_again == []
    approvals = [row for row in world.rows("a") if row["actor"] == "operator:ana"]
    assert len(approvals) == 1
    assert world.board.row("c").comments == ("mind the tests",)


def test_f8_a_key_stands_for_one_wish_of_one_person(world):
    world.bring("RUNNING", ["a", "b"])
    world.ask("ana", "pause", "a", key="k1")

    for kind, unit, args in (("pause", "b", {}), ("cancel", "a", {}), ("pause", "a", {"reason": "other words"})):
        with pytest.raises(KeyReusedError, match="used for another request before: nothing was done"):
            world.ask("ana", kind, unit, key="k1", **args)
    with pytest.raises(IllegalMoveError, match="ana paused it"):
        world.ask("bob", "pause", "a", key="k1")

    assert world.board.row("b").status is Status.RUNNING
    assert world.ask("bob", "cancel", "a", key="k1")["status"] == "CANCELLED"


def test_f8_what_was_refused_is_looked_at_anew_under_its_key(world):
    world.bring("RUNNING", ["a"])
    with pytest.raises(IllegalMoveError):
        world.ask("ana", "resume", "a", key="k1")
    world.ask("bob", "pause", "a")

    assert world.ask("ana", "resume", "a", key="k1")["status"] == "READY"


def test_f8_a_wish_sent_again_is_answered_as_it_was_though_the_unit_has_moved_on(world):
    world.bring("error", ["a"])
    before = world.ask("ana", "retry", "a", key="k1")
    world.executor.exits("a", 0)
    world.step()

    assert world.ask("ana", "retry", "a", key="k1") == before
    assert world.board.row("a").status is Status.DONE


def test_f8_so_many_keys_are_remembered_and_no_more(world, monkeypatch):
    monkeypatch.setattr(repeats, "REMEMBERED_KEYS", 3)
    for number in range(5):
        world.ask("ana", "submit", units=[{"name": f"u{number}"}], key=f"k{number}")

    assert world.ask("ana", "submit", units=[{"name": "u2"}], key="k2")["units"] == ["u2"]
    with pytest.raises(UsageError, match="exists already"):
        world.ask("ana", "submit", units=[{"name": "u1"}], key="k1")


def test_f8_a_key_that_is_none_is_refused(world):
    for key in ("", "a b", "x" * 201, "ä", "a\n", 3):
        with pytest.raises(OrchError, match="1 to 200 printable characters"):
            world.queue("ana", "dispatch", paused=True, key=key)


# -- what hands write is text


def test_a9_no_word_of_a_person_or_an_agent_becomes_part_of_a_command(world):
    hostile = [
        "$(touch canary)",
        "`touch canary`",
        "; touch canary #",
        "'\"\n| touch canary",
        "--help",
        "${IFS}",
        "%n%s",
    ]
    world.bring("error", [f"u{number}" for number in range(len(hostile))])

    for number, words in enumerate(hostile):
        world.queue("ana", "edit", f"u{number}", set={"prompt": words})
        world.queue("ana", "retry", f"u{number}", feedback=words)
    world.step()

    for spec, words in zip(world.executor.started[-len(hostile) :], hostile, strict=True):
        assert spec.argv == ("true",)
        assert spec.env["ORCH_FEEDBACK"] == words
        assert spec.prompt.endswith(f"{words}\n\nFeedback on the attempt before:\n{words}")


# -- a merge under way


@pytest.mark.parametrize("step", ["build", "advance"])
@pytest.mark.parametrize("kind", ["cancel", "pause"])
def test_a_request_in_the_middle_of_a_merge_wins_and_the_log_says_what_became_of_the_merge(
    make, wait_until, monkeypatch, step, kind
):
    project = make()
    project.script("a", does="echo done > work.txt")
    begun, go, real = threading.Event(), threading.Event(), getattr(merge, step)

    def held(*args, **kwargs):
        begun.set()
        assert go.wait(60)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(merge, step, held)
        project.submit("a")
        assert begun.wait(30)
        project.ask(kind, "a")
        go.set()
    project.until("a", "CANCELLED" if kind == "cancel" else "PAUSED")
    wait_until(lambda: project.orchestrator._scheduler._live == {}, what="the merge to end")
    made = "work.txt" in project.git("ls-tree", "--name-only", "main").split()
    notes = project.orchestrator.rows("SELECT message FROM event WHERE unit = 'a' AND type = 'merge-late'")
    assert (made, len(notes)) == ((True, 1) if step == "advance" else (False, 0))
    assert project.story("a")[-1] == kind

    project.ask("reopen" if kind == "cancel" else "resume", "a")
    project.until("a", "DONE")
    assert project.on_main("work.txt") == "done\n"
    assert project.git("log", "--oneline", "--merges", "main").count("Merge unit a") == 1
