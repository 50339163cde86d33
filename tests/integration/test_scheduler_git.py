"""The whole core on real git worktrees and real processes: from submit to merged, and everything that comes between."""

from __future__ import annotations

from git_project import FILE_LINES


def test_a_unit_goes_through_implement_and_merge_and_its_worktree_is_removed(make):
    project = make()
    before = project.git("rev-parse", "main")
    project.script("a", does="echo new > new.txt; git add new.txt; git commit -qm 'by the agent'; echo rest > rest.txt")

    project.submit("a")
    unit = project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "advance", "start", "finish"]
    assert unit.base == before
    assert project.on_main("new.txt") == "new\n"
    assert project.on_main("rest.txt") == "rest\n", "uncommitted work is committed first"
    assert (project.root / "new.txt").read_text() == "new\n", "the operator's clean checkout moves along"
    assert project.git("status", "--porcelain") == ""
    assert project.git("rev-parse", "main^1") == before
    project.wait(lambda: not project.worktree("a").exists(), "the worktree to be removed")
    project.wait(lambda: "orch/a" not in project.git("branch", "--list"), "the branch to be removed")


# -- merging


def test_f25_a_merge_conflict_is_an_attention_item_with_its_files_and_the_worktree_stays(make):
    project = make()
    project.script("a", does="sed -i s/two/TWO/ file.txt; while ! test -e $HERE/go; do sleep 0.02; done")
    project.script("b", does="sed -i s/two/zwei/ file.txt")

    project.submit("a", "b")
    project.until("b", "DONE")
    project.leave("go")
    project.until("a", "NEEDS_ATTENTION", phase="MERGE")

    item = project.item("a")
    assert item.kind == "conflict" and item.files == ("file.txt",)
    assert "conflicts with main" in item.title and "+=======" in item.text
    assert project.on_main("file.txt") == "one\nzwei\nthree\n"
    assert (project.worktree("a") / "file.txt").read_text() == "one\nTWO\nthree\n"
    assert project.git("log", "-1", "--format=%s", "orch/a") == "a: IMPLEMENT (attempt 1)"


def test_f25_after_a_conflict_a_retry_of_implement_tells_the_agent_and_its_resolution_is_merged(make):
    project = make()
    project.script(
        "a",
        does="""
        if test -n "$ORCH_FEEDBACK"; then
            echo "$ORCH_FEEDBACK" > $HERE/feedback
            git merge -q main || printf 'one\\nTWO and zwei\\nthree\\n' > file.txt
            git commit -qam resolved
        else
            sed -i s/two/TWO/ file.txt
            while ! test -e $HERE/go; do sleep 0.02; done
        fi
        """,
    )
    project.script("b", does="sed -i s/two/zwei/ file.txt")
    project.submit("a", "b")
    project.until("b", "DONE")
    project.leave("go")
    project.until("a", "NEEDS_ATTENTION")

    project.ask("retry", "a", phase="IMPLEMENT", feedback="merge main and keep both")
    project.until("a", "DONE")

    assert "merge main and keep both" in project.word("feedback")
    assert project.on_main("file.txt") == "one\nTWO and zwei\nthree\n"
    assert not project.orchestrator.board.attention
    project.wait(lambda: not project.worktree("a").exists(), "the worktree to be removed")


def test_a_conflict_goes_back_to_the_agent_by_itself_where_the_settings_say_so(make):
    project = make(more='[phases.MERGE]\nback_to = "IMPLEMENT"\nreworks = 1\n')
    project.script(
        "a",
        does="""
        if test -n "$ORCH_FEEDBACK"; then
            git merge -q main || printf 'both\\n' > file.txt
            git commit -qam resolved
        else
            sed -i s/two/TWO/ file.txt
            while ! test -e $HERE/go; do sleep 0.02; done
        fi
        """,
    )
    project.script("b", does="sed -i s/two/zwei/ file.txt")
    project.submit("a", "b")
    project.until("b", "DONE")
    project.leave("go")

    project.until("a", "DONE")

    assert project.story("a") == [
        *["submit", "start", "advance", "start", "rework"],
        *["start", "advance", "start", "finish"],
    ]
    assert project.on_main("file.txt") == "both\n"


def test_a_merge_whose_verify_command_fails_is_not_made(make):
    project = make(settings='verify = "if test -e bad.txt; then echo bad.txt is not wanted; exit 3; fi"')
    project.script("a", does='if test -n "$ORCH_FEEDBACK"; then git rm -q bad.txt; else echo x > bad.txt; fi')
    before = project.git("rev-parse", "main")

    project.submit("a")
    project.until("a", "NEEDS_ATTENTION", phase="MERGE")

    item = project.item("a")
    assert item.kind == "error" and "verify" in item.title and "bad.txt is not wanted" in item.text
    assert project.git("rev-parse", "main") == before
    assert project.worktree("a").exists()

    project.ask("retry", "a", phase="IMPLEMENT", feedback="without bad.txt")
    project.until("a", "DONE")
    assert project.on_main("bad.txt") is None
    project.wait(lambda: not list((project.root / ".orchestrator" / "scratch").iterdir()), "the scratch to be removed")


def test_verify_runs_on_the_merged_tree_of_both_units(make, tmp_path):
    project = make(settings=f'verify = "echo * >> {tmp_path}/seen"')
    project.script("a", does="echo a > a.txt")
    project.script("b", does="echo b > b.txt")

    project.submit("a")
    project.until("a", "DONE")
    project.submit("b")
    project.until("b", "DONE")

    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen[-1].split() == ["a.txt", "b.txt", "file.txt", "orchestrator.toml"]
    assert project.on_main("a.txt") and project.on_main("b.txt")


def test_when_the_base_moves_during_verify_the_merge_is_built_and_verified_again(make, tmp_path):
    go = tmp_path / "go"
    project = make(settings=f'verify = "touch {tmp_path}/verifying; while ! test -e {go}; do sleep 0.02; done"')
    project.script("a", does="echo a > a.txt")
    project.submit("a")
    project.wait((tmp_path / "verifying").exists, "verify to run")

    project.write("mine.txt", "the operator's\n")
    project.commit("the operator commits")
    theirs = project.git("rev-parse", "main")
    go.touch()
    project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "advance", "start", "defer", "start", "finish"]
    assert project.git("rev-parse", "main^1") == theirs
    assert project.on_main("a.txt") and project.on_main("mine.txt")


def test_f24_the_operators_uncommitted_work_is_never_overwritten_by_a_merge(make):
    project = make()
    project.write("file.txt", "the operator's unsaved thoughts\n")
    project.script("a", does="sed -i s/two/TWO/ file.txt")
    project.script("b", does="echo b > b.txt")

    project.submit("a", "b")
    project.until("b", "DONE")
    project.until("a", "NEEDS_ATTENTION")

    item = project.item("a")
    assert item.files == ("file.txt",) and "main can't advance" in item.title
    assert (project.root / "file.txt").read_text() == "the operator's unsaved thoughts\n"
    assert (project.root / "b.txt").read_text() == "b\n", "what doesn't get in the way is merged"
    assert project.on_main("file.txt") == FILE_LINES

    project.git("checkout", "--", "file.txt")
    project.ask("retry", "a")
    project.until("a", "DONE")
    assert (project.root / "file.txt").read_text() == "one\nTWO\nthree\n"


def test_f25_an_agent_that_leaves_a_conflict_unresolved_sends_its_unit_to_a_person_who_is_told_where(make):
    project = make()
    project.script(
        "a",
        does="git checkout -q -b x; sed -i s/two/2/ file.txt; git commit -qam x; git checkout -q orch/a;"
        " sed -i s/two/zwei/ file.txt; git commit -qam y; git merge -q x; true",
    )

    project.submit("a")
    project.until("a", "NEEDS_ATTENTION", phase="IMPLEMENT")

    assert "unresolved conflicts in file.txt" in project.item("a").text
    project.write("../scripts/a.IMPLEMENT", "git checkout -q --ours file.txt; git add file.txt")
    project.ask("retry", "a")
    project.until("a", "DONE")
    assert project.on_main("file.txt") == "one\nzwei\nthree\n"


def test_a_unit_that_changed_nothing_is_done_without_a_merge_commit(make):
    project = make()
    before = project.git("rev-parse", "main")

    project.submit("a")
    project.until("a", "DONE")

    assert project.git("rev-parse", "main") == before
    assert project.reasons("a", "finish") == ["main holds all of its work"]


def test_a_unit_starts_from_what_its_blocker_merged(make):
    project = make()
    project.script("a", does="echo from a > a.txt")
    project.script("b", does="cat a.txt > $HERE/seen")

    project.orchestrator.request("submit", units=[{"name": "b", "after": ["a"]}, {"name": "a"}]).result(10)
    project.until("b", "DONE")

    assert project.word("seen") == "from a\n"
    assert project.story("b")[:4] == ["submit", "block", "unblock", "start"]


def test_many_units_at_once_are_all_merged(make):
    project = make(settings="slots = 4")
    names = [f"u{number}" for number in range(12)]
    for name in names:
        project.script(name, does=f"echo {name} > {name}.txt")

    project.submit(*names)
    for name in names:
        project.until(name, "DONE")

    assert all(project.on_main(f"{name}.txt") == f"{name}\n" for name in names)
    assert project.git("status", "--porcelain") == ""


# -- reviews, questions, failures


def test_a_review_sends_the_unit_back_with_its_feedback_and_approves_the_next_time(make):
    project = make(phases="IMPLEMENT REVIEW MERGE")
    project.script("a", does='echo "${ORCH_FEEDBACK:-first}" > a.txt')
    project.script(
        "a",
        "REVIEW",
        does="""
        if grep -q first a.txt; then
            echo '{"type":"review","decision":"changes","feedback":"say second"}' >> $ORCH_EVENTS
        else
            echo '{"type":"review","decision":"approve"}' >> $ORCH_EVENTS
        fi
        """,
    )

    project.submit("a")
    project.until("a", "DONE")

    assert project.story("a").count("rework") == 1
    assert project.on_main("a.txt") == "say second\n"
    assert "say second" in project.run_dir("a", 3).joinpath("prompt.txt").read_text()


def test_an_agent_that_asks_and_ends_is_run_again_with_the_answer(make):
    project = make()
    project.script(
        "a",
        does="""
        if test -z "$ORCH_ANSWER"; then
            echo half > half.txt
            echo '{"type":"ask","question":"Which?","options":["x","y"]}' >> $ORCH_EVENTS
            exit 0
        fi
        echo "$ORCH_ANSWER" > answer.txt
        """,
    )
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")
    item = project.item("a")
    assert (item.kind, item.text, item.options) == ("question", "Which?", ("x", "y"))
    project.wait((project.run_dir("a") / "exit.json").exists, "the agent to end")

    project.ask("answer", "a", text="y")
    unit = project.until("a", "DONE")

    assert {"answer", "lose"} & set(project.story("a")) and unit.attempt == 3, "lose: its work was just being committed"
    assert project.on_main("answer.txt") == "y\n"
    assert project.on_main("half.txt") == "half\n", "what it did before it asked is kept"


def test_an_agent_that_waits_gets_its_answer_alive_and_holds_no_slot_meanwhile(make):
    project = make(settings="slots = 1")
    project.script(
        "a",
        does="""
        echo '{"type":"ask","question":"Which?"}' >> $ORCH_EVENTS
        while ! test -s $ORCH_ANSWERS; do sleep 0.02; done
        cp $ORCH_ANSWERS answers.txt
        """,
    )
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")
    project.submit("b")
    project.until("b", "DONE")

    project.ask("answer", "a", text="the second")
    unit = project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "ask", "continue", "advance", "start", "finish"]
    assert '"answer": "the second"' in project.on_main("answers.txt") and unit.attempt == 2


def test_an_approval_that_is_rejected_reaches_the_agent_as_such(make):
    project = make()
    project.script(
        "a",
        does="""
        if test -z "$ORCH_ANSWER"; then
            echo '{"type":"ask","kind":"approval","question":"Delete it all?"}' >> $ORCH_EVENTS
        else
            echo "$ORCH_ANSWER" > answer.txt
        fi
        """,
    )
    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")
    assert project.item("a").options == ("approve", "reject")

    project.ask("reject", "a", feedback="keep it")
    project.until("a", "DONE")

    assert project.on_main("answer.txt") == "reject: keep it\n"


def test_a_failed_phase_is_retried_in_the_same_worktree_then_goes_to_a_person_with_its_last_words(make):
    project = make(more="[phases.IMPLEMENT]\nretries = 1\n")
    project.script("a", does="echo x >> tries.txt; test $(wc -l < tries.txt) -ge 2")
    project.script("b", does="echo I give up; exit 3")

    project.submit("a", "b")
    project.until("a", "DONE")
    project.until("b", "NEEDS_ATTENTION")

    assert project.story("a") == ["submit", "start", "defer", "start", "advance", "start", "finish"]
    assert "exit code 1" in project.reasons("a", "defer")[0]
    assert project.story("b") == ["submit", "start", "defer", "start", "fail"]
    item = project.item("b")
    assert item.kind == "error" and "exit code 3" in item.title and "I give up" in item.text

    project.script("b", does="echo better > b.txt")
    project.ask("retry", "b")
    project.until("b", "DONE")
    assert project.on_main("b.txt") == "better\n"


def test_exit_code_75_defers_without_counting_as_a_failure(make):
    project = make(more="[phases.IMPLEMENT]\nretries = 0\n")
    project.script(
        "a",
        does="""
        test -e $HERE/again && exit 0
        touch $HERE/again
        echo '{"type":"defer","reason":"rate limit"}' >> $ORCH_EVENTS
        exit 75
        """,
    )

    project.submit("a")
    unit = project.until("a", "DONE")

    assert project.story("a") == ["submit", "start", "defer", "start", "advance", "start", "finish"]
    assert project.reasons("a", "defer") == ["rate limit"] and unit.failures == 0


def test_a_command_that_does_not_exist_goes_to_a_person_at_once_and_names_it(make):
    project = make(more='[phases.IMPLEMENT]\nagent = "ghost"\n[agents.ghost]\ncommand = ["no-such-program"]\n')

    project.submit("a")
    project.until("a", "NEEDS_ATTENTION")

    assert project.item("a").kind == "error" and "no-such-program" in project.item("a").text
