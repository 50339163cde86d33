"""A unit's branch and worktree: nothing is lost, whatever an agent, a crash or another git has left."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from workspace_kit import LINES, Repo, git

from orchestrator_app.errors import GitError, OrchError, UsageError, WorkspaceError
from orchestrator_app.workspace.worktrees import Worktrees, check_repository


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def refusal(call, *args, kind: type[OrchError] = WorkspaceError, **options) -> str:
    """The one line that `call` is refused with."""
    with pytest.raises(kind) as refused:
        call(*args, **options)
    text = str(refused.value)
    assert "\n" not in text
    return text


# check_repository


def test_a_good_repository_passes_the_check(repo: Repo) -> None:
    check_repository(repo.root, "main")


def test_a_directory_outside_any_repository_is_refused_with_the_way_out(tmp_path: Path) -> None:
    assert "git init" in refusal(check_repository, tmp_path, "main")
    assert "not a directory" in refusal(check_repository, tmp_path / "missing", "main")


def test_a_subdirectory_is_refused_and_the_top_level_named(repo: Repo) -> None:
    assert str(repo.root) in refusal(check_repository, repo.root / "app", "main")


def test_a_bare_repository_and_one_without_a_commit_are_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    git(tmp_path, "init", "-q", "-b", "main", "empty")

    assert "bare" in refusal(check_repository, tmp_path / "bare.git", "main")
    assert "no commit" in refusal(check_repository, tmp_path / "empty", "main")


@pytest.mark.parametrize("base", ["missing", "main~0", "--help", "main^{tree}", "@{-1}", ""])
def test_a10_a_base_that_is_no_branch_is_refused_and_the_branches_named(repo: Repo, base: str) -> None:
    text = refusal(check_repository, repo.root, base)

    assert "one of: main" in text


# ensure


def test_a_fresh_unit_starts_at_the_given_commit_whatever_is_checked_out(repo: Repo) -> None:
    start = repo.main
    git(repo.root, "checkout", "-q", "-b", "elsewhere")
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "Later")

    path = repo.worktrees.ensure("u", start)

    assert path == repo.state / "worktrees" / "u"
    assert repo.tip("u") == start
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/orch/u"
    assert (path / "a.txt").read_text() == LINES
    assert git(repo.root, "symbolic-ref", "HEAD") == "refs/heads/elsewhere"
    assert repo.status() == ""


def test_ensure_again_changes_nothing_and_never_moves_a_branch(repo: Repo) -> None:
    sha = repo.work("u", {"new.txt": "x"})
    path = repo.unit("u")
    (path / "draft.txt").write_text("not yet committed")
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "Base goes on")

    assert repo.worktrees.ensure("u", repo.main) == path

    assert repo.tip("u") == sha
    assert (path / "draft.txt").read_text() == "not yet committed"


def test_f23_a_deleted_worktree_is_made_anew_from_its_branch(repo: Repo) -> None:
    sha = repo.work("u", {"new.txt": "x"})
    shutil.rmtree(repo.worktrees.path("u"))

    path = repo.unit("u")

    assert (path / "new.txt").read_text() == "x"
    assert repo.tip("u") == sha
    assert git(path, "status", "--porcelain") == ""


def test_f23_a_commit_on_a_detached_head_outlives_the_deletion_of_its_worktree(repo: Repo) -> None:
    path = repo.unit("u")
    git(path, "checkout", "-q", "--detach")
    git(path, "commit", "-q", "--allow-empty", "-m", "Off the branch")
    sha = git(path, "rev-parse", "HEAD")
    shutil.rmtree(path)

    repo.unit("u")

    assert sha in git(repo.root, "for-each-ref", "--format=%(objectname)", "refs/orch/kept")


def test_a_branch_that_exists_without_a_worktree_is_checked_out_as_it_is(repo: Repo) -> None:
    git(repo.root, "branch", "orch/u", "main")
    git(repo.root, "pack-refs", "--all")
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "Base goes on")
    before = repo.tip("u")

    repo.unit("u")

    assert repo.tip("u") == before


def test_a_tag_of_the_same_name_changes_nothing(repo: Repo) -> None:
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "Other")
    git(repo.root, "tag", "orch/u", "main")
    start = git(repo.root, "rev-parse", "main~1")

    path = repo.worktrees.ensure("u", start)

    assert git(path, "rev-parse", "HEAD") == start
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/orch/u"


def test_f23_a_directory_that_is_not_ours_is_left_alone(repo: Repo) -> None:
    path = repo.worktrees.path("u")
    path.mkdir(parents=True)
    (path / "precious.txt").write_text("mine")

    assert "move it away" in refusal(repo.unit, "u")

    assert (path / "precious.txt").read_text() == "mine"


def test_a_branch_checked_out_elsewhere_is_refused_and_the_place_named(repo: Repo, tmp_path: Path) -> None:
    git(repo.root, "worktree", "add", "-q", "-b", "orch/u", str(tmp_path / "other"))

    assert str(tmp_path / "other") in refusal(repo.unit, "u")


def test_another_worktree_of_the_same_directory_name_does_not_confuse(repo: Repo, tmp_path: Path) -> None:
    git(repo.root, "worktree", "add", "-q", "--detach", str(tmp_path / "u"))

    sha = repo.work("u", {"new.txt": "x"})

    assert repo.tip("u") == sha
    assert git(tmp_path / "u", "status", "--porcelain") == ""


def test_a_branch_named_orch_is_said_to_be_in_the_way(repo: Repo) -> None:
    git(repo.root, "branch", "orch")

    assert "rename the branch `orch`" in refusal(repo.unit, "u")


def test_f23_a_deleted_branch_is_said_with_the_command_that_brings_it_back(repo: Repo) -> None:
    sha = repo.work("u", {"new.txt": "x"})
    git(repo.root, "update-ref", "-d", "refs/heads/orch/u")

    assert f"git branch orch/u {sha}" in refusal(repo.unit, "u")
    assert f"git branch orch/u {sha}" in refusal(repo.worktrees.commit_all, "u", "more")


@pytest.mark.parametrize("content", [None, "gitdir: /nowhere\n", "rubbish", ""])
def test_a11_a_planted_git_file_is_mended_and_never_believed(repo: Repo, tmp_path: Path, content: str | None) -> None:
    repo.work("u", {"new.txt": "x"})
    path = repo.worktrees.path("u")
    (path / ".git").unlink()
    if content is not None:
        (path / ".git").write_text(content)
    (path / "more.txt").write_text("y")

    assert repo.worktrees.commit_all("u", "More") == repo.tip("u")
    repo.unit("u")

    assert git(path, "rev-parse", "HEAD") == repo.tip("u")
    assert ".git" not in repo.files_of("orch/u")


def test_a11_a_git_file_that_points_into_another_repository_commits_nothing_there(repo: Repo, tmp_path: Path) -> None:
    other = Repo(tmp_path / "other")
    before = other.main
    path = repo.unit("u")
    (path / ".git").write_text(f"gitdir: {other.root / '.git'}\n")
    (path / "new.txt").write_text("x")

    sha = repo.worktrees.commit_all("u", "Work")

    assert sha == repo.tip("u")
    assert other.main == before


def test_a11_a_planted_common_directory_commits_nothing_elsewhere(repo: Repo, tmp_path: Path) -> None:
    other = Repo(tmp_path / "other")
    git(other.root, "branch", "orch/u")
    path = repo.unit("u")
    (repo.root / ".git" / "worktrees" / "u" / "commondir").write_text(f"{other.root / '.git'}\n")
    (path / "new.txt").write_text("x")

    assert repo.worktrees.commit_all("u", "Work") == repo.tip("u")
    assert other.tip("u") == other.main


def test_f23_a_repository_in_place_of_the_git_file_is_refused(repo: Repo) -> None:
    path = repo.unit("u")
    (path / ".git").unlink()
    git(path, "init", "-q")

    assert "move it away" in refusal(repo.unit, "u")


def test_f23_a_moved_project_finds_its_worktrees_again(repo: Repo, tmp_path: Path) -> None:
    sha = repo.work("u", {"new.txt": "x"})
    (repo.worktrees.path("u") / "draft.txt").write_text("draft")
    repo.root.rename(tmp_path / "moved")
    moved = Worktrees(tmp_path / "moved", tmp_path / "moved" / ".orchestrator")

    path = moved.ensure("u", sha)

    assert (path / "draft.txt").read_text() == "draft"
    assert git(path, "rev-parse", "HEAD") == sha
    assert moved.commit_all("u", "Draft") is not None


def test_f24_a_worktree_that_git_was_killed_over_is_made_anew(repo: Repo) -> None:
    path = repo.unit("u")
    record = repo.root / ".git" / "worktrees" / "u"
    (record / "locked").write_text("initializing\n")
    (record / "index").unlink()
    (path / "a.txt").unlink()

    repo.unit("u")

    assert (path / "a.txt").read_text() == LINES
    assert git(path, "status", "--porcelain") == ""


def test_eight_units_are_made_at_once_in_threads(repo: Repo) -> None:
    start, gate = repo.main, threading.Barrier(8)

    def run(number: int) -> str | None:
        gate.wait()
        path = repo.worktrees.ensure(f"u{number}", start)
        (path / "mine.txt").write_text(str(number))
        return repo.worktrees.commit_all(f"u{number}", "Work")

    with ThreadPoolExecutor(8) as pool:
        commits = list(pool.map(run, range(8)))

    assert len(set(commits)) == 8 and None not in commits
    assert [repo.tip(f"u{number}") for number in range(8)] == commits


def test_eight_calls_for_one_unit_make_one_worktree(repo: Repo) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: repo.unit("u"), range(8)))

    assert len(paths) == 1
    assert git(repo.root, "worktree", "list", "--porcelain").count("worktree ") == 2


@pytest.mark.parametrize("sha", ["", "main", "HEAD", "--all", "0" * 39, "refs/heads/main"])
def test_a10_a_start_that_is_no_full_commit_name_is_refused(repo: Repo, sha: str) -> None:
    assert "full one" in refusal(repo.worktrees.ensure, "u", sha, kind=UsageError)


def test_a_start_that_does_not_exist_is_refused(repo: Repo) -> None:
    refusal(repo.worktrees.ensure, "u", "1" * 40)

    assert not repo.worktrees.path("u").exists()


@pytest.mark.parametrize("unit", ["", ".", "..", "../x", "a/b", ".hidden", "a\0b"])
def test_a8_a_name_that_leaves_the_worktrees_is_refused(repo: Repo, unit: str) -> None:
    refusal(repo.worktrees.ensure, unit, repo.main, kind=UsageError)
    refusal(repo.worktrees.remove, unit, discard=True, kind=UsageError)


def test_the_root_may_itself_be_a_linked_worktree(repo: Repo, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    git(repo.root, "worktree", "add", "-q", "-b", "side", str(linked))
    worktrees = Worktrees(linked, linked / ".orchestrator")
    check_repository(linked, "side")
    worktrees.exclude_state()

    path = worktrees.ensure("u", worktrees.tip("side"))
    (path / "new.txt").write_text("x")

    assert worktrees.commit_all("u", "Work") == repo.tip("u")
    assert git(linked, "status", "--porcelain") == ""
    worktrees.remove("u", discard=True)


def test_f24_a_lock_of_the_branch_that_a_killed_git_left_does_not_keep_a_unit_from_being_made(repo: Repo) -> None:
    lock = repo.root / ".git" / "refs" / "heads" / "orch" / "u.lock"
    lock.parent.mkdir()
    lock.write_text("")

    repo.unit("u")

    assert repo.tip("u") == repo.main
    assert not lock.exists()


# commit_all


def test_everything_but_what_is_ignored_is_committed(repo: Repo) -> None:
    path = repo.unit("u")
    (path / "a.txt").write_text("changed\n")
    (path / "b.txt").unlink()
    (path / "deep" / "er").mkdir(parents=True)
    (path / "deep" / "er" / "new.txt").write_text("x")
    (path / "noise.log").write_text("ignored")
    (path / "-x").write_text("a name like an option")
    (path / ":(top)*").write_text("a name like a pathspec")
    (path / "line\nbreak ä").write_text("x")
    os.symlink("a.txt", path / "link")

    sha = repo.worktrees.commit_all("u", "Work")

    assert sha == repo.tip("u")
    assert git(path, "status", "--porcelain") == ""
    names = git(repo.root, "ls-tree", "-r", "-z", "--name-only", "orch/u").split("\0")
    assert {"-x", ":(top)*", "line\nbreak ä", "link", "deep/er/new.txt"} <= set(names)
    assert not {"b.txt", "noise.log"} & set(names)


def test_a_name_that_is_not_utf8_is_committed(repo: Repo) -> None:
    path = repo.unit("u")
    (Path(os.fsdecode(os.fsencode(path) + b"/\xff\xfe"))).write_text("x")

    repo.worktrees.commit_all("u", "Work")

    assert repo.worktrees.changed_files("u", repo.main) == ["\ufffd\ufffd"]


def test_a_file_replaced_by_a_directory_or_a_link_is_committed(repo: Repo) -> None:
    path = repo.unit("u")
    (path / "a.txt").unlink()
    (path / "a.txt").mkdir()
    (path / "a.txt" / "core.py").write_text("of the same name as one in the directory that becomes a link\n")
    shutil.rmtree(path / "app")
    os.symlink("a.txt", path / "app")

    repo.worktrees.commit_all("u", "Work")

    assert repo.files_of("orch/u") == [".gitignore", "a.txt/core.py", "app", "b.txt"]
    assert git(path, "status", "--porcelain") == ""


def test_nothing_new_gives_none_and_no_commit(repo: Repo) -> None:
    repo.unit("u")
    before = repo.tip("u")

    assert repo.worktrees.commit_all("u", "Work") is None
    assert repo.tip("u") == before


@pytest.mark.parametrize("message", ["--amend", "-F /etc/passwd", "", "# a comment", "two\n\nparts ä", "nul\0byte"])
def test_a10_any_message_is_only_a_message(repo: Repo, message: str) -> None:
    repo.unit("u")
    (repo.worktrees.path("u") / "new.txt").write_text("x")

    repo.worktrees.commit_all("u", message)

    expected = message.replace("\0", "").strip() or "Work on u"
    assert git(repo.root, "log", "-1", "--format=%B", "orch/u") == expected
    assert git(repo.root, "rev-list", "--count", "main..orch/u") == "1"


def test_without_an_identity_the_orchestrator_signs_and_otherwise_the_user(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    repo.work("u", {"one.txt": "x"})
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    repo.work("u", {"two.txt": "x"})

    authors = git(repo.root, "log", "--format=%an <%ae>", "main..orch/u").splitlines()

    assert authors == ["Ada <ada@example.org>", "orchestrator <orchestrator@localhost>"]


def test_f25_a_conflict_left_open_is_refused_by_file_and_committed_once_resolved(repo: Repo) -> None:
    repo.work("u", {"a.txt": "theirs\n"})
    path = repo.worktrees.path("u")
    (repo.root / "a.txt").write_text("ours\n")
    git(repo.root, "commit", "-q", "-am", "Base changes the same")
    git(path, "merge", "-q", "main", code=1)
    before = repo.tip("u")

    assert "a.txt" in refusal(repo.worktrees.commit_all, "u", "Work")
    git(path, "add", "-A")
    assert "a.txt" in refusal(repo.worktrees.commit_all, "u", "Work")
    assert repo.tip("u") == before

    (path / "a.txt").write_text("both\n")
    sha = repo.worktrees.commit_all("u", "Resolved")
    assert git(repo.root, "rev-list", "--parents", "-1", sha).split()[1:] == [before, repo.main]


def test_f25_a_file_deleted_on_one_side_stays_open_until_someone_decides(repo: Repo) -> None:
    repo.work("u", {"a.txt": "theirs\n"})
    git(repo.root, "rm", "-q", "a.txt")
    git(repo.root, "commit", "-q", "-m", "Base deletes it")
    git(repo.worktrees.path("u"), "merge", "-q", "main", code=1)

    assert "a.txt" in refusal(repo.worktrees.commit_all, "u", "Work")


def test_a_merge_without_changes_that_was_left_uncommitted_is_committed(repo: Repo) -> None:
    repo.work("u", {"a.txt": "same\n"})
    path = repo.worktrees.path("u")
    (repo.root / "a.txt").write_text("same\n")
    git(repo.root, "commit", "-q", "-am", "The same")
    git(path, "merge", "-q", "--no-commit", "main")

    assert repo.worktrees.commit_all("u", "Merge") == repo.tip("u")
    assert not (repo.root / ".git" / "worktrees" / "u" / "MERGE_HEAD").exists()


def test_f24_a_rebase_left_open_is_named_and_nothing_lost(repo: Repo) -> None:
    sha = repo.work("u", {"a.txt": "theirs\n"})
    (repo.root / "a.txt").write_text("ours\n")
    git(repo.root, "commit", "-q", "-am", "Base changes the same")
    git(repo.worktrees.path("u"), "rebase", "-q", "main", code=1)

    assert "rebase" in refusal(repo.worktrees.commit_all, "u", "Work")
    assert repo.tip("u") == sha


@pytest.mark.parametrize("switch", [["--detach"], ["-b", "mine"]])
def test_f24_a_worktree_on_another_head_is_refused_and_its_files_stay(repo: Repo, switch: list[str]) -> None:
    path = repo.unit("u")
    git(path, "checkout", "-q", *switch)
    (path / "new.txt").write_text("x")
    before = repo.tip("u")

    assert "not on orch/u" in refusal(repo.worktrees.commit_all, "u", "Work")

    assert repo.tip("u") == before
    assert (path / "new.txt").read_text() == "x"


def test_a11_a_branch_made_a_link_to_the_base_does_not_move_the_base(repo: Repo) -> None:
    path = repo.unit("u")
    git(repo.root, "symbolic-ref", "refs/heads/orch/u", "refs/heads/main")
    (path / "new.txt").write_text("x")
    before = repo.main

    assert "symbolic" in refusal(repo.worktrees.commit_all, "u", "Work")
    assert repo.main == before


def test_f24_a_lock_that_a_killed_git_left_is_removed(repo: Repo) -> None:
    path = repo.unit("u")
    record = repo.root / ".git" / "worktrees" / "u"
    for lock in (record / "index.lock", record / "HEAD.lock", repo.root / ".git/refs/heads/orch/u.lock"):
        lock.write_text("")
    (path / "new.txt").write_text("x")

    assert repo.worktrees.commit_all("u", "Work") == repo.tip("u")


def test_f24_a_lock_that_a_live_process_holds_stays_and_is_named(repo: Repo) -> None:
    path = repo.unit("u")
    lock = repo.root / ".git" / "worktrees" / "u" / "index.lock"
    (path / "new.txt").write_text("x")

    with lock.open("w"):
        text = refusal(repo.worktrees.commit_all, "u", "Work", kind=GitError)
        assert lock.exists()

    assert str(lock) in text
    assert repo.worktrees.commit_all("u", "Work") is not None


def test_f24_a_lock_that_is_held_for_a_moment_only_costs_that_moment(repo: Repo) -> None:
    path = repo.unit("u")
    lock = repo.root / ".git" / "worktrees" / "u" / "index.lock"
    (path / "new.txt").write_text("x")
    holder = lock.open("w")

    def let_go() -> None:
        lock.unlink()
        holder.close()

    timer = threading.Timer(0.3, let_go)
    timer.start()

    assert repo.worktrees.commit_all("u", "Work") == repo.tip("u")
    timer.join()


def test_nested_repositories_are_left_alone_and_break_nothing(repo: Repo) -> None:
    path = repo.unit("u")
    for name in ("empty", "full"):
        (path / name).mkdir()
        git(path / name, "init", "-q")
    (path / "full" / "inner.txt").write_text("x")
    git(path / "full", "add", "-A")
    git(path / "full", "commit", "-q", "-m", "Inner")
    (path / "new.txt").write_text("x")

    repo.worktrees.commit_all("u", "Work")

    assert not {"empty", "full"} & set(repo.files_of("orch/u"))
    assert "new.txt" in repo.files_of("orch/u")
    assert "empty/" in refusal(repo.worktrees.remove, "u", "orch/u")
    assert (path / "full" / "inner.txt").exists()


def test_a_repository_with_a_submodule_works_without_its_files(repo: Repo, tmp_path: Path) -> None:
    library = Repo(tmp_path / "library")
    git(repo.root, "submodule", "--quiet", "add", str(library.root), "lib")
    git(repo.root, "commit", "-q", "-m", "Add a submodule")

    repo.work("u", {"new.txt": "x"})

    assert "lib" in repo.files_of("orch/u")
    assert repo.worktrees.changed_files("u", repo.main) == ["new.txt"]
    git(repo.root, "merge", "-q", "orch/u")
    repo.worktrees.remove("u", "main")


# changed_files, diff


def test_the_diff_is_what_the_unit_did_and_not_what_the_base_did_since(repo: Repo) -> None:
    start = repo.main
    repo.work("u", {"a.txt": LINES.replace("line 3", "LINE 3"), "ä.txt": "new\n"})
    git(repo.root, "commit", "-q", "--allow-empty", "-m", "Base goes on")

    assert repo.worktrees.changed_files("u", start) == ["a.txt", "ä.txt"]
    assert repo.worktrees.changed_files("u", repo.main) == ["a.txt", "ä.txt"]
    diff = repo.worktrees.diff("u", start)
    assert "-line 3\n+LINE 3\n" in diff
    assert "a/a.txt" in diff


def test_a_huge_diff_is_cut_and_says_so(repo: Repo) -> None:
    start = repo.main
    repo.work("u", {"huge.txt": "0123456789abcdef\n" * 400_000})

    diff = repo.worktrees.diff("u", start)

    assert len(diff) < 2_100_000
    assert "[cut after" in diff[-100:]


# remove


def test_merged_work_is_removed_with_its_branch_and_again_without_effect(repo: Repo) -> None:
    repo.work("u", {"new.txt": "x"})
    (repo.worktrees.path("u") / "noise.log").write_text("ignored files hold nobody back")
    git(repo.root, "merge", "-q", "orch/u")

    repo.worktrees.remove("u", "main")
    repo.worktrees.remove("u", "main")

    assert not repo.worktrees.path("u").exists()
    assert "orch/u" not in git(repo.root, "branch", "--list", "--all")
    assert git(repo.root, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert list((repo.state / "worktrees").iterdir()) == []


def test_unmerged_work_is_kept_unless_discarded(repo: Repo) -> None:
    sha = repo.work("u", {"new.txt": "x"})

    assert "not in main" in refusal(repo.worktrees.remove, "u", "main")
    refusal(repo.worktrees.remove, "u", kind=UsageError)
    assert repo.tip("u") == sha
    assert repo.worktrees.path("u").is_dir()

    repo.worktrees.remove("u", discard=True)
    assert not repo.worktrees.path("u").exists()
    assert "orch/u" not in git(repo.root, "branch", "--list")


@pytest.mark.parametrize("leave", ["change", "untracked", "staged", "detached"])
def test_uncommitted_work_is_kept_unless_discarded(repo: Repo, leave: str) -> None:
    path = repo.unit("u")
    if leave == "change":
        (path / "a.txt").write_text("changed")
    elif leave == "detached":
        git(path, "checkout", "-q", "--detach")
        git(path, "commit", "-q", "--allow-empty", "-m", "Off the branch")
    else:
        (path / "new.txt").write_text("x")
        if leave == "staged":
            git(path, "add", "new.txt")

    refusal(repo.worktrees.remove, "u", "main")
    assert path.is_dir()

    repo.worktrees.remove("u", discard=True)
    assert not path.exists()


def test_a_directory_that_can_not_be_written_is_removed(repo: Repo) -> None:
    path = repo.unit("u")
    (path / "cache.log").mkdir()
    (path / "cache.log" / "file").write_text("x")
    os.chmod(path / "cache.log", 0o500)

    repo.worktrees.remove("u", "main")

    assert not path.exists()


def test_a12_a_link_in_a_worktree_is_removed_and_not_what_it_points_at(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    path = repo.unit("u")
    os.symlink(tmp_path / "precious", path / "link.log")

    repo.worktrees.remove("u", "main")

    assert (tmp_path / "precious" / "file").read_text() == "x"


# exclude_state


def test_the_state_is_ignored_once_and_the_file_keeps_what_it_had(repo: Repo) -> None:
    exclude = repo.root / ".git" / "info" / "exclude"
    exclude.write_text("*.mine")

    repo.worktrees.exclude_state()
    repo.worktrees.exclude_state()

    assert exclude.read_text() == "*.mine\n/.orchestrator/\n"
    (repo.state / "worktrees").mkdir(parents=True, exist_ok=True)
    (repo.state / "file").write_text("x")
    assert repo.status() == ""


def test_f24_git_killed_anywhere_while_a_worktree_is_made_leaves_a_unit_that_can_be_made(repo: Repo) -> None:
    (repo.root / "many").mkdir()
    for number in range(200):
        (repo.root / "many" / f"{number}.txt").write_text(LINES)
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-q", "-m", "Many files")
    start = repo.main

    for number in range(10):
        path = repo.worktrees.path(f"u{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        add = ["git", "worktree", "add", "-q", "-b", f"orch/u{number}", str(path), start]
        making = subprocess.Popen(add, cwd=repo.root, process_group=0, stderr=subprocess.DEVNULL)
        try:
            making.wait(0.002 * (number + 1))
        except subprocess.TimeoutExpired:
            os.killpg(making.pid, 9)
            making.wait()
        repo.worktrees.ensure(f"u{number}", start)

        assert git(path, "status", "--porcelain") == "", number
        assert repo.tip(f"u{number}") == start
