"""Units that touch the same files: one after the other, or as the operator rules."""

from __future__ import annotations

import pytest

from orchestrator_app.errors import IllegalMoveError

ONE_AT_A_TIME = """
mkdir $HERE/alone || touch $HERE/doubled
sleep 0.05
rmdir $HERE/alone
echo $ORCH_UNIT >> file.txt
"""


def test_units_that_touch_the_same_files_run_one_after_the_other(make):
    project = make(settings="slots = 4")
    names = [f"u{number}" for number in range(4)]
    for name in names:
        project.script(
            name,
            does=f"mkdir $HERE/alone || touch $HERE/doubled; sleep 0.05; rmdir $HERE/alone; echo {name} >> file.txt",
        )

    project.submit(*names, touches=["file.*"])
    for name in names:
        project.until(name, "DONE")

    assert project.word("doubled") is None
    assert sorted(project.on_main("file.txt").split()) == sorted(["one", "two", "three", *names])
    assert "touches" in project.reasons("u3", "block")[0]


def test_an_overlap_asks_the_operator_where_the_settings_say_so_and_serialize_waits_for_the_other(make):
    project = make(settings='touches = "ask"')
    begin_script = (
        "touch $HERE/$ORCH_UNIT.there; while ! test -e $HERE/go; do sleep 0.02; done; echo $ORCH_UNIT >> file.txt"
    )
    project.script("a", does=begin_script)
    project.script("b", does="echo b >> file.txt")
    project.submit("a", touches=["file.txt"])
    project.submit("b", touches=["*.txt"])
    project.until("b", "NEEDS_ATTENTION")
    item = project.item("b")
    assert item.kind == "conflict" and item.other == "a" and item.options == ("serialize", "parallelize")

    project.ask("resolve", "b", other="a", ruling="serialize")

    assert project.unit("b").status == "BLOCKED" and not project.orchestrator.board.attention
    project.leave("go")
    project.until("b", "DONE")
    assert project.on_main("file.txt") == "one\ntwo\nthree\na\nb\n"


def test_two_units_ruled_independent_run_beside_each_other_for_good(make):
    project = make(settings='touches = "ask"')
    script = "touch $HERE/$ORCH_UNIT.there; while ! test -e $HERE/go; do sleep 0.02; done"
    project.script("a", does=script)
    project.script("b", does=script)
    project.submit("a", touches=["file.txt"])
    project.submit("b", touches=["*.txt"])
    project.until("b", "NEEDS_ATTENTION")

    project.ask("resolve", "b", other="a", ruling="parallelize")
    project.wait(lambda: project.word("b.there") is not None, "b to run beside a")
    assert project.unit("a").status == "RUNNING"
    project.restart()

    project.until("a", "RUNNING")
    project.until("b", "RUNNING")
    project.leave("go")
    project.until("a", "DONE")
    project.until("b", "DONE")


def test_what_is_not_possible_is_refused_with_one_line(make):
    project = make()
    project.submit("a")
    project.until("a", "DONE")

    with pytest.raises(IllegalMoveError, match="a is DONE: cancel is not possible") as refused:
        project.ask("cancel", "a")
    assert "\n" not in str(refused.value)
