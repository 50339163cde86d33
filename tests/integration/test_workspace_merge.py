"""Merging: the base moves whole or not at all, and nobody's uncommitted work is ever overwritten."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workspace_kit import LINES, Repo, git, write_program

from orchestrator_app.errors import UsageError, WorkspaceError
from orchestrator_app.workspace import merge


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def commit_on_main(repo: Repo, file: str, text: str) -> str:
    (repo.root / file).write_text(text)
    git(repo.root, "add", file)
    git(repo.root, "commit", "-q", "-m", f"Operator changes {file}")
    return repo.main


# build


def test_a_merge_is_one_commit_with_both_parents_and_touches_no_checkout(repo: Repo) -> None:
    work = repo.work("u", {"new.txt": "x"})
    old = commit_on_main(repo, "b.txt", "ours\n")

    built = repo.built("u")

    assert built.old == old == repo.main
    assert git(repo.root, "rev-list", "--parents", "-1", built.new).split()[1:] == [old, work]
    assert "Merge unit u" in git(repo.root, "log", "-1", "--format=%s", built.new)
    assert {"new.txt", "b.txt"} <= set(repo.files_of(built.new))
    assert repo.status() == ""
    assert not (repo.root / "new.txt").exists()


def test_work_ahead_of_an_unmoved_base_still_gets_a_merge_commit(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})

    built = repo.built("u")

    assert len(git(repo.root, "rev-list", "--parents", "-1", built.new).split()) == 3


def test_a_unit_without_commits_or_merged_before_gives_nothing(repo: Repo) -> None:
    repo.unit("idle")
    repo.work("u", {"new.txt": "x"})
    git(repo.root, "merge", "-q", "orch/u")

    assert merge.build(repo.root, "idle", "main") == merge.Nothing()
    assert merge.build(repo.root, "u", "main") == merge.Nothing()


def test_a_conflict_names_its_files_and_shows_both_sides(repo: Repo) -> None:
    repo.work("u", {"a.txt": LINES.replace("line 3", "theirs"), "ä b.txt": "theirs\n", "fine.txt": "x"})
    commit_on_main(repo, "a.txt", LINES.replace("line 3", "ours"))
    commit_on_main(repo, "ä b.txt", "ours\n")

    conflict = merge.build(repo.root, "u", "main")

    assert isinstance(conflict, merge.Conflict)
    assert conflict.files == ["a.txt", "ä b.txt"]
    assert "CONFLICT (content)" in conflict.text
    assert "ours" in conflict.text and "theirs" in conflict.text
    assert repo.status() == ""


def test_conflicts_without_lines_are_told_too(repo: Repo) -> None:
    (repo.root / "image").write_bytes(b"\0\1\2")
    git(repo.root, "add", "image")
    git(repo.root, "commit", "-q", "-m", "Binary")
    path = repo.unit("u")
    (path / "image").write_bytes(b"\0theirs")
    (path / "a.txt").write_text("theirs\n")
    repo.worktrees.commit_all("u", "Work")
    (repo.root / "image").write_bytes(b"\0ours")
    git(repo.root, "rm", "-q", "a.txt")
    git(repo.root, "commit", "-q", "-am", "Other side")

    conflict = merge.build(repo.root, "u", "main")

    assert isinstance(conflict, merge.Conflict)
    assert conflict.files == ["a.txt", "image"]
    assert "modify/delete" in conflict.text and "binary" in conflict.text


def both_changed(path: Path, side: str) -> None:
    (path / "a.txt").write_text(f"{side}\n")


def binary(path: Path, side: str) -> None:
    (path / "a.txt").write_bytes(b"\0" + side.encode())


def removed_and_changed(path: Path, side: str) -> None:
    git(path, "rm", "-q", "a.txt") if side == "ours" else both_changed(path, side)


def renamed_and_removed(path: Path, side: str) -> None:
    git(path, *(("mv", "a.txt", "new.txt") if side == "ours" else ("rm", "-q", "a.txt")))


def renamed_twice(path: Path, side: str) -> None:
    git(path, "mv", "a.txt", f"{side}.txt")


def file_and_directory(path: Path, side: str) -> None:
    (path / "new").mkdir() if side == "ours" else (path / "new").write_text("a file\n")
    if side == "ours":
        (path / "new" / "inner").write_text("in a directory\n")


def link_and_file(path: Path, side: str) -> None:
    (path / "new").symlink_to("a.txt") if side == "ours" else (path / "new").write_text("a file\n")


def two_links(path: Path, side: str) -> None:
    (path / "new").symlink_to(side)


def mode_and_content(path: Path, side: str) -> None:
    (path / "new").write_text(f"{side}\n")
    (path / "new").chmod(0o755 if side == "ours" else 0o644)


def submodule(path: Path, side: str) -> None:
    commit = git(path, "commit-tree", "-m", side, "HEAD^{tree}")
    git(path, "update-index", "--add", "--cacheinfo", f"160000,{commit},new")


CONFLICTS = [both_changed, binary, removed_and_changed, renamed_and_removed, renamed_twice]
CONFLICTS += [file_and_directory, link_and_file, two_links, mode_and_content, submodule]


@pytest.mark.parametrize("change", CONFLICTS)
def test_f25_a_conflict_of_every_kind_names_its_files_changes_nothing_and_merges_once_resolved(
    repo: Repo, change
) -> None:
    path = repo.unit("u")
    for where, side in ((repo.root, "ours"), (path, "theirs")):
        change(where, side)
        if change is not submodule:
            git(where, "add", "-A")
        git(where, "commit", "-q", "-m", side)
    git(repo.root, "reset", "-q", "--hard")
    before = (repo.main, repo.tip("u"), repo.status(), git(path, "status", "--porcelain"))

    conflict = merge.build(repo.root, "u", "main")

    assert isinstance(conflict, merge.Conflict), conflict
    assert conflict.files and all(file.startswith(("a.txt", "new", "ours", "theirs")) for file in conflict.files)
    assert "CONFLICT" in conflict.text and len(conflict.text) < merge.CONFLICT_TEXT_LIMIT + 2000
    assert merge.build(repo.root, "u", "main") == conflict, "a retry sees the same"
    assert (repo.main, repo.tip("u"), repo.status(), git(path, "status", "--porcelain")) == before

    git(path, "merge", "-q", "-s", "ours", "-m", "The unit's own is right", "main")
    assert repo.advance(repo.built("u")) == merge.Advanced()
    assert repo.status() == ""


def test_f25_a_mode_changed_here_and_a_content_changed_there_are_both_merged(repo: Repo) -> None:
    path = repo.unit("u")
    (path / "a.txt").chmod(0o755)
    repo.worktrees.commit_all("u", "Work")
    commit_on_main(repo, "a.txt", "ours\n")

    assert repo.advance(repo.built("u")) == merge.Advanced()

    assert (repo.root / "a.txt").stat().st_mode & 0o111 and (repo.root / "a.txt").read_text() == "ours\n"


def test_a_missing_branch_is_said_by_name(repo: Repo) -> None:
    with pytest.raises(WorkspaceError, match="orch/ghost"):
        merge.build(repo.root, "ghost", "main")


# scratch


def test_the_scratch_holds_the_built_merge_on_no_branch_and_stays_as_it_is(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")

    path = merge.scratch(repo.root, repo.state, "u", built.new)
    (path / "made-by-verify").write_text("x")

    assert merge.scratch(repo.root, repo.state, "u", built.new) == path
    assert (path / "made-by-verify").exists()
    assert (path / "new.txt").read_text() == "x"
    assert git(path, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"


def test_the_scratch_of_another_commit_is_made_anew_and_moves_no_branch(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    path = merge.scratch(repo.root, repo.state, "u", repo.built("u").new)
    git(path, "checkout", "-q", "-b", "made-by-verify")
    made = git(repo.root, "rev-parse", "made-by-verify")
    (path / "left-over").write_text("x")

    again = merge.scratch(repo.root, repo.state, "u", repo.main)

    assert not (again / "left-over").exists()
    assert not (again / "new.txt").exists()
    assert git(repo.root, "rev-parse", "made-by-verify") == made


def test_f24_a_dropped_or_deleted_scratch_can_be_made_again(repo: Repo) -> None:
    path = merge.scratch(repo.root, repo.state, "u", repo.main)
    merge.drop_scratch(repo.root, repo.state, "u")
    merge.drop_scratch(repo.root, repo.state, "u")
    assert not path.exists()
    assert git(repo.root, "worktree", "list", "--porcelain").count("worktree ") == 1

    merge.scratch(repo.root, repo.state, "u", repo.main)
    shutil.rmtree(path)

    assert (merge.scratch(repo.root, repo.state, "u", repo.main) / "a.txt").exists()


def test_a_unit_has_its_worktree_and_its_scratch_side_by_side(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    merge.scratch(repo.root, repo.state, "u", repo.built("u").new)

    assert repo.work("u", {"more.txt": "y"}) == repo.tip("u")
    merge.drop_scratch(repo.root, repo.state, "u")
    assert repo.worktrees.path("u").is_dir()


# advance


def test_a_base_that_is_checked_out_nowhere_is_moved(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    git(repo.root, "checkout", "-q", "--detach")

    assert repo.advance(built) == merge.Advanced()

    assert repo.main == built.new
    assert not (repo.root / "new.txt").exists()
    assert repo.status() == ""


@pytest.mark.parametrize("pack", [False, True])
def test_the_operators_checkout_follows_and_keeps_what_is_uncommitted_elsewhere(repo: Repo, pack: bool) -> None:
    repo.work("u", {"new.txt": "x", "a.txt": "theirs\n"})
    built = repo.built("u")
    (repo.root / "b.txt").write_text("uncommitted\n")
    (repo.root / "app" / "core.py").write_text("staged\n")
    git(repo.root, "add", "app/core.py")
    (repo.root / "untracked.txt").write_text("mine\n")
    if pack:
        git(repo.root, "pack-refs", "--all")

    assert repo.advance(built) == merge.Advanced()

    assert repo.main == built.new
    assert (repo.root / "a.txt").read_text() == "theirs\n"
    assert (repo.root / "new.txt").read_text() == "x"
    assert repo.status().splitlines() == ["M  app/core.py", " M b.txt", "?? untracked.txt"]
    assert (repo.root / "b.txt").read_text() == "uncommitted\n"


def dirty_modified(root: Path) -> str:
    (root / "a.txt").write_text("mine\n")
    return "a.txt"


def dirty_staged(root: Path) -> str:
    (root / "a.txt").write_text("mine\n")
    git(root, "add", "a.txt")
    return "a.txt"


def dirty_untracked(root: Path) -> str:
    (root / "new.txt").write_text("mine\n")
    return "new.txt"


def dirty_ignored(root: Path) -> str:
    (root / "secret.env").write_text("mine\n")
    return "secret.env"


def dirty_directory(root: Path) -> str:
    (root / "new.txt").mkdir()
    (root / "new.txt" / "inner").write_text("mine\n")
    return "new.txt/inner"


@pytest.mark.parametrize("dirty", [dirty_modified, dirty_staged, dirty_untracked, dirty_ignored, dirty_directory])
def test_f24_what_the_operator_has_not_committed_is_never_overwritten(repo: Repo, dirty) -> None:
    path = repo.unit("u")
    for name in ("a.txt", "new.txt", "secret.env", "other.txt"):
        (path / name).write_text("theirs\n")
    git(path, "add", "-f", "secret.env")
    repo.worktrees.commit_all("u", "Work")
    built = repo.built("u")
    file = dirty(repo.root)
    before = (repo.main, repo.status())

    blocked = repo.advance(built)

    assert isinstance(blocked, merge.Blocked)
    assert any(file.startswith(named) for named in blocked.files) and "\n" not in blocked.why
    assert (repo.root / file).read_text() == "mine\n"
    assert (repo.main, repo.status()) == before
    assert not (repo.root / "other.txt").exists()


def test_once_the_operator_made_room_the_same_merge_advances(repo: Repo) -> None:
    repo.work("u", {"new.txt": "theirs\n"})
    built = repo.built("u")
    (repo.root / "new.txt").write_text("mine\n")
    assert isinstance(repo.advance(built), merge.Blocked)

    (repo.root / "new.txt").unlink()

    assert repo.advance(built) == merge.Advanced()
    assert repo.advance(built) == merge.Advanced()


def test_a_base_that_moved_meanwhile_is_left_where_it_is(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    tip = commit_on_main(repo, "b.txt", "ours\n")

    assert repo.advance(built) == merge.Moved(tip)
    assert repo.main == tip

    git(repo.root, "checkout", "-q", "--detach")
    assert repo.advance(built) == merge.Moved(tip)
    assert repo.main == tip


def test_a_base_that_moves_at_the_last_moment_is_left_where_it_is(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    git(repo.root, "checkout", "-q", "--detach")
    theirs = git(repo.root, "commit-tree", "-p", built.old, "-m", "Theirs", "main^{tree}")
    (tmp_path / "bin").mkdir()
    move = f"case \" $* \" in *' update-ref '*) {shutil.which('git')} update-ref refs/heads/main {theirs};; esac\n"
    write_program(tmp_path / "bin" / "git", f'{move}exec {shutil.which("git")} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    assert repo.advance(built) == merge.Moved(theirs)
    assert repo.main == theirs


def test_f24_a_lock_on_the_base_blocks_and_is_named(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    git(repo.root, "checkout", "-q", "--detach")
    lock = repo.root / ".git" / "refs" / "heads" / "main.lock"
    lock.write_text("")

    blocked = repo.advance(built)

    assert isinstance(blocked, merge.Blocked)
    assert str(lock) in blocked.why


def test_a_base_that_was_rewound_is_left_where_it_is(repo: Repo) -> None:
    first = repo.main
    commit_on_main(repo, "b.txt", "ours\n")
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    git(repo.root, "reset", "-q", "--hard", first)

    assert repo.advance(built) == merge.Moved(first)


def test_a_commit_that_does_not_descend_from_the_base_is_refused(repo: Repo) -> None:
    stranger = git(repo.root, "commit-tree", "-m", "Stranger", "main^{tree}")
    before = repo.main

    blocked = merge.advance(repo.root, repo.state, "main", before, stranger)
    assert isinstance(blocked, merge.Blocked)
    git(repo.root, "checkout", "-q", "--detach")
    with pytest.raises(WorkspaceError, match="does not descend"):
        merge.advance(repo.root, repo.state, "main", before, stranger)

    assert repo.main == before


def test_f24_an_index_lock_of_the_operator_blocks_and_is_named(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    lock = repo.root / ".git" / "index.lock"
    lock.write_text("")

    blocked = repo.advance(built)

    assert isinstance(blocked, merge.Blocked)
    assert str(lock) in blocked.why
    assert lock.exists()
    assert repo.main == built.old


@pytest.mark.parametrize("business", ["merge", "rebase", "cherry-pick"])
def test_f24_an_operator_in_the_middle_of_something_is_not_disturbed(repo: Repo, business: str) -> None:
    git(repo.root, "checkout", "-q", "-b", "side")
    (repo.root / "a.txt").write_text("side\n")
    git(repo.root, "commit", "-q", "-am", "Side")
    git(repo.root, "checkout", "-q", "main")
    commit_on_main(repo, "a.txt", "ours\n")
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    git(repo.root, business, "side", code=1)
    before = (repo.main, repo.status())

    blocked = repo.advance(built)

    assert isinstance(blocked, merge.Blocked)
    assert business in blocked.why
    assert (repo.main, repo.status()) == before


def test_another_worktree_that_has_the_base_follows_too(repo: Repo, tmp_path: Path) -> None:
    git(repo.root, "checkout", "-q", "-b", "elsewhere")
    other = tmp_path / "other"
    git(repo.root, "worktree", "add", "-q", str(other), "main")
    (other / "b.txt").write_text("uncommitted\n")
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")

    assert repo.advance(built) == merge.Advanced()

    assert (other / "new.txt").read_text() == "x"
    assert (other / "b.txt").read_text() == "uncommitted\n"
    assert not (repo.root / "new.txt").exists()


def test_a11_a_worktree_that_has_the_base_is_found_by_the_repositorys_record(repo: Repo, tmp_path: Path) -> None:
    git(repo.root, "checkout", "-q", "-b", "elsewhere")
    other, stranger = tmp_path / "other", Repo(tmp_path / "stranger")
    git(repo.root, "worktree", "add", "-q", str(other), "main")
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")
    (other / ".git").write_text(f"gitdir: {stranger.root / '.git'}\n")

    assert repo.advance(built) == merge.Advanced()

    assert (other / "new.txt").exists()
    assert stranger.main == built.old


def test_a_deleted_worktree_that_had_the_base_is_no_hindrance(repo: Repo, tmp_path: Path) -> None:
    git(repo.root, "checkout", "-q", "-b", "elsewhere")
    git(repo.root, "worktree", "add", "-q", str(tmp_path / "other"), "main")
    shutil.rmtree(tmp_path / "other")
    repo.work("u", {"new.txt": "x"})

    assert repo.advance(repo.built("u")) == merge.Advanced()


def test_a_base_checked_out_twice_blocks(repo: Repo, tmp_path: Path) -> None:
    git(repo.root, "worktree", "add", "-q", "--force", str(tmp_path / "other"), "main")
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")

    blocked = repo.advance(built)

    assert isinstance(blocked, merge.Blocked)
    assert repo.main == built.old


def test_a11_the_users_merge_options_do_not_bend_the_merge(repo: Repo) -> None:
    git(repo.root, "config", "branch.main.mergeOptions", "--squash --no-commit")
    git(repo.root, "config", "merge.ff", "false")
    repo.work("u", {"new.txt": "x"})
    built = repo.built("u")

    assert repo.advance(built) == merge.Advanced()
    assert repo.main == built.new
    assert repo.status() == ""


@pytest.mark.parametrize("old", ["main", "--all", "", "HEAD"])
def test_a10_only_full_commit_names_are_taken(repo: Repo, old: str) -> None:
    with pytest.raises(UsageError):
        merge.advance(repo.root, repo.state, "main", old, repo.main)
    with pytest.raises(UsageError):
        merge.scratch(repo.root, repo.state, "u", old)


def test_units_merged_one_after_the_other_all_arrive(repo: Repo) -> None:
    for number in range(4):
        repo.work(f"u{number}", {f"new{number}.txt": "x"})

    for number in range(4):
        assert repo.advance(repo.built(f"u{number}")) == merge.Advanced()
        repo.worktrees.remove(f"u{number}", "main")

    assert {f"new{number}.txt" for number in range(4)} <= set(repo.files_of("main"))
    assert repo.status() == ""


def test_f24_a_server_and_its_git_killed_anywhere_in_a_merge_leave_the_base_old_or_new_and_the_next_goes_on(
    repo: Repo,
) -> None:
    (repo.root / "many").mkdir()
    for number in range(150):
        (repo.root / "many" / f"{number}.txt").write_text(LINES)
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-q", "-m", "Many files")
    program = (
        "import sys; from pathlib import Path; from orchestrator_app.workspace import merge\n"
        "root = Path(sys.argv[1]); built = merge.build(root, sys.argv[2], 'main'); print(built.new, flush=True)\n"
        "merge.advance(root, root / '.orchestrator', 'main', built.old, built.new)\n"
    )
    chance = random.Random(7)

    for number in range(6):
        unit = f"u{number}"
        repo.work(unit, {f"many/{other}.txt": f"{unit} was here\n" for other in range(150)})
        old = repo.main
        merging = subprocess.Popen(
            [sys.executable, "-c", program, str(repo.root), unit],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        new = merging.stdout.readline().strip()
        time.sleep(chance.uniform(0, 0.05))
        merging.kill()
        merging.wait()
        merging.stdout.close()
        kill_gits(repo.root)

        assert repo.main in (old, new)
        git(repo.root, "fsck", "--connectivity-only")
        assert merge.advance(repo.root, repo.state, "main", old, new) == merge.Advanced()
        assert repo.main == new and repo.status() == ""


def kill_gits(root: Path) -> None:
    """Kill every git that works in `root`, and wait until it is gone."""
    for process in Path("/proc").iterdir():
        try:
            ours = (process / "comm").read_text().strip() == "git" and os.readlink(process / "cwd") == str(root)
        except OSError:
            continue
        if ours:
            os.kill(int(process.name), 9)
            while process.exists() and "State:\tZ" not in (process / "status").read_text():
                time.sleep(0.001)


def test_a11_hooks_do_not_run_and_can_not_stop_a_merge(repo: Repo, tmp_path: Path) -> None:
    for hook in ("pre-commit", "post-merge", "reference-transaction", "post-checkout", "prepare-commit-msg"):
        write_program(repo.root / ".git" / "hooks" / hook, f"touch {tmp_path}/ran-{hook}\nexit 1\n")
    repo.work("u", {"new.txt": "x"})

    assert repo.advance(repo.built("u")) == merge.Advanced()

    assert list(tmp_path.glob("ran-*")) == []
