"""The one wrapper around git: nothing planted in a repository runs, no name becomes an option, nothing hangs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from workspace_kit import Repo, git, write_program

from orchestrator_app.errors import GitError, OrchError, WorkspaceError
from orchestrator_app.workspace import leftovers, merge
from orchestrator_app.workspace.git import run_git
from orchestrator_app.workspace.places import place_of


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def everything(repo: Repo, unit: str) -> None:
    """One of each operation on git that the package knows."""
    path = repo.unit(unit)
    (path / "data.bin").write_text("unit\n")
    (path / "a.txt").write_text("unit\n")
    repo.worktrees.commit_all(unit, "Work")
    repo.unit(unit)
    repo.worktrees.changed_files(unit, repo.main)
    repo.worktrees.diff(unit, repo.main)
    built = merge.build(repo.root, unit, "main")
    if isinstance(built, merge.Built):
        merge.scratch(repo.root, repo.state, unit, built.new)
        merge.drop_scratch(repo.root, repo.state, unit)
        assert repo.advance(built) == merge.Advanced()
        repo.worktrees.remove(unit, "main")
    else:
        repo.worktrees.remove(unit, discard=True)


SETTINGS = {
    "fsmonitor": [("core.fsmonitor", "{}")],
    "hooks": [("core.hooksPath", "{dir}")],
    "textconv": [("diff.evil.textconv", "{}")],
    "external diff": [("diff.external", "{}"), ("diff.evil.command", "{}")],
    "filter": [("filter.evil.clean", "{}"), ("filter.evil.smudge", "{}"), ("filter.evil.required", "true")],
    "filter process": [("filter.evil.process", "{}"), ("filter.evil.required", "true")],
    "merge driver": [("merge.evil.driver", "{}")],
    "pager and editor": [("core.pager", "{}"), ("core.editor", "{}"), ("sequence.editor", "{}"), ("pager.diff", "{}")],
    "signing": [("commit.gpgsign", "true"), ("gpg.program", "{}"), ("merge.verifySignatures", "true")],
}


@pytest.mark.parametrize("planted", SETTINGS)
def test_a11_no_program_that_the_repositorys_configuration_names_runs(repo: Repo, tmp_path: Path, planted: str) -> None:
    canary = tmp_path / "canary"
    evil = write_program(tmp_path / "evil", f"touch '{canary}'\ncat\n")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-checkout", "post-merge", "post-index-change", "reference-transaction"):
        shutil.copy(evil, hooks / name)
    (repo.root / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    (repo.root / "data.bin").write_text("base\n")
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-q", "-m", "Attributes")
    everything(repo, "before")

    for key, value in SETTINGS[planted]:
        git(repo.root, "config", key, value.format(evil, dir=hooks))
    repo.work("clash", {"data.bin": "clash\n"})
    (repo.root / "a.txt").write_text("operator\n")
    run_git(["commit", "-q", "-am", "Operator"], repo.root)
    everything(repo, "after")
    everything(repo, "again")
    merge.build(repo.root, "clash", "main")
    run_git(["status"], repo.root)
    run_git(["log", "-p", "-3"], repo.root)

    assert not canary.exists()


def test_a11_the_canaries_above_do_sing_for_an_unguarded_git(repo: Repo, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = write_program(tmp_path / "evil", f"touch '{canary}'\ncat\n")
    (repo.root / ".gitattributes").write_text("* filter=evil\n")

    for key in ("core.fsmonitor", "filter.evil.clean"):
        git(repo.root, "config", key, str(evil))
        (repo.root / f"{key}.txt").write_text("x")
        git(repo.root, "add", "-A", code=None)
        assert canary.exists(), key
        canary.unlink()
        git(repo.root, "config", "--unset", key)


def test_a11_a_missing_object_starts_no_transport(repo: Repo, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = write_program(tmp_path / "evil", f"touch '{canary}'\nexit 1\n")
    git(repo.root, "config", "remote.evil.url", str(tmp_path / "nowhere"))
    git(repo.root, "config", "remote.evil.uploadpack", str(evil))
    git(repo.root, "config", "remote.evil.promisor", "true")
    git(repo.root, "config", "core.repositoryFormatVersion", "1")
    git(repo.root, "config", "extensions.partialClone", "evil")

    with pytest.raises(GitError):
        run_git(["cat-file", "-p", "1" * 40], repo.root)
    assert not canary.exists()

    git(repo.root, "cat-file", "-p", "1" * 40, code=None)
    assert canary.exists(), "the trap itself must work"


def test_a11_a_filter_hidden_in_an_included_file_does_not_run_either(repo: Repo, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = write_program(tmp_path / "evil", f"touch '{canary}'\ncat\n")
    (tmp_path / "more.cfg").write_text("")
    git(repo.root, "config", "include.path", str(tmp_path / "more.cfg"))
    (repo.root / ".gitattributes").write_text("* filter=evil\n")
    repo.work("u", {"one.txt": "x"})

    git(repo.root, "config", "--file", str(tmp_path / "more.cfg"), "filter.evil.clean", str(evil))
    path = repo.unit("u")
    (path / ".gitattributes").write_text("* filter=evil\n")
    (path / "two.txt").write_text("x")
    repo.worktrees.commit_all("u", "Work")

    assert not canary.exists()


def test_the_users_own_filter_counts_even_when_the_repository_overrides_it(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / ".gitconfig").write_text('[filter "up"]\n\tclean = tr a-z A-Z\n')
    canary = tmp_path / "canary"
    git(repo.root, "config", "filter.up.clean", f"touch '{canary}'; cat")

    repo.work("u", {".gitattributes": "*.up filter=up\n", "x.up": "hello\n"})

    assert git(repo.root, "show", "orch/u:x.up") == "HELLO"
    assert not canary.exists()


def test_a11_a_planted_merge_driver_gives_way_to_gits_own_merge(repo: Repo, tmp_path: Path) -> None:
    (repo.root / ".gitattributes").write_text("*.txt merge=evil\n")
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-q", "-m", "Attributes")
    git(repo.root, "config", "merge.evil.driver", "true")
    lines = (repo.root / "a.txt").read_text()
    repo.work("u", {"a.txt": lines.replace("line 2\n", "unit\n"), "b.txt": "unit\n"})
    (repo.root / "a.txt").write_text(lines.replace("line 18\n", "operator\n"))
    git(repo.root, "commit", "-q", "-am", "Operator")

    built = repo.built("u")
    merged = git(repo.root, "show", f"{built.new}:a.txt")
    assert "unit" in merged and "operator" in merged

    (repo.root / "b.txt").write_text("operator\n")
    git(repo.root, "commit", "-q", "-am", "Operator again")
    conflict = merge.build(repo.root, "u", "main")
    assert isinstance(conflict, merge.Conflict) and conflict.files == ["b.txt"]


def test_a11_a_configured_work_tree_does_not_lead_git_astray(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "astray").mkdir()
    repo.work("u", {"new.txt": "x"})
    git(repo.root, "config", "core.worktree", str(tmp_path / "astray"))

    assert repo.advance(repo.built("u")) == merge.Advanced()

    assert (repo.root / "new.txt").exists()
    assert list((tmp_path / "astray").iterdir()) == []


def test_a11_inherited_variables_do_not_reach_git(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Repo(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))

    top = run_git(["rev-parse", "--show-toplevel"], repo.root).out.strip()

    assert top == str(repo.root)
    assert not (tmp_path / "trace").exists()


NAMES = [
    "--upload-pack=touch canary",
    "-x",
    "--output=canary",
    "a;touch canary",
    "$(touch canary)",
    "`id`",
    "a b",
    "@{-1}",
    "main",
]


@pytest.mark.parametrize("name", NAMES)
def test_a10_no_name_becomes_an_option_or_a_command(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recorded = tmp_path / "argv"
    shim = tmp_path / "bin"
    shim.mkdir()
    real = shutil.which("git")
    record = f"""printf '%s\\0' "$@" '' >> '{recorded}'"""  # an empty argument ends a call: we never pass one
    write_program(shim / "git", f'{record}\nexec {real} "$@"\n')
    monkeypatch.setenv("PATH", f"{shim}{os.pathsep}{os.environ['PATH']}")
    before = repo.main

    for base in ("main", name):
        for step in (
            lambda: repo.worktrees.ensure(name, before),
            lambda: repo.worktrees.commit_all(name, name),
            lambda: repo.worktrees.diff(name, before),
            lambda base=base: merge.build(repo.root, name, base),
            lambda base=base: merge.advance(repo.root, repo.state, base, before, before),
            lambda: merge.scratch(repo.root, repo.state, name, before),
            lambda: merge.drop_scratch(repo.root, repo.state, name),
            lambda base=base: repo.worktrees.remove(name, base),
        ):
            try:
                step()
            except OrchError as refused:
                assert "\n" not in str(refused)

    assert list(tmp_path.rglob("canary")) == []
    calls = [call.split("\0") for call in recorded.read_text().split("\0\0")]
    mine = [call[call.index("i18n.logOutputEncoding=UTF-8") + 1 :] for call in calls if "--no-pager" in call]
    assert len(mine) > 5
    for call in mine:
        for place, argument in enumerate(call):
            if name in argument:
                qualified = argument.startswith(("refs/heads/", "refs/orch/"))
                assert qualified or "--" in call[:place] or call[place - 1] == "-m", call


def test_f24_a_git_that_takes_too_long_is_stopped_with_what_it_started(repo: Repo, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    sleeper = f"!echo $$ > '{pid_file}'; exec sleep 600"

    with pytest.raises(GitError, match="took more than"):
        run_git(["-c", f"alias.slow={sleeper}", "slow"], repo.root, timeout=0.5)

    assert time.monotonic() - started < 60
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()


def test_f24_a_git_that_ignores_term_is_killed(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "git", f"trap '' TERM\necho $$ > '{pid_file}'\nwhile :; do sleep 0.1; done\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    bare = tmp_path / "bare"
    bare.mkdir()

    with pytest.raises(GitError, match="took more than"):
        run_git(["version"], bare, timeout=0.5)

    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()


def test_output_beyond_the_limit_is_cut(repo: Repo) -> None:
    done = run_git(["cat-file", "--batch-all-objects", "--batch"], repo.root, limit=100)

    assert done.cut
    assert len(done.out) == 100


def test_large_input_and_output_do_not_block_each_other(repo: Repo) -> None:
    text = b"0123456789abcdef\n" * 200_000

    sha = run_git(["hash-object", "-w", "--stdin"], repo.root, input=text).out.strip()

    assert run_git(["cat-file", "blob", sha], repo.root).out.encode() == text


def test_a_failure_says_in_one_line_what_failed_and_where(repo: Repo) -> None:
    with pytest.raises(GitError) as failed:
        run_git(["rev-parse", "--verify", "missing"], repo.root)

    text = str(failed.value)
    assert "git rev-parse" in text and str(repo.root) in text and "\n" not in text


def test_a_machine_without_git_is_told_what_to_install(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(GitError, match="install git"):
        run_git(["version"], repo.root.parent)


def test_f23_a_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="not a directory"):
        run_git(["status"], tmp_path / "gone")


def test_a_broken_configuration_is_an_error_and_not_a_traceback(repo: Repo) -> None:
    (repo.root / ".git" / "config").write_text("[core\nbroken")

    with pytest.raises(GitError, match="bad config"):
        run_git(["status"], repo.root)


def test_a11_a_nested_submodules_filter_does_not_run_while_work_is_committed(repo: Repo, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = write_program(tmp_path / "evil", f"touch '{canary}'\ncat\n")
    path = repo.unit("u")
    inner = path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "x").write_text("x")
    (inner / ".gitattributes").write_text("* filter=evil\n")
    git(inner, "add", "-A")
    git(inner, "commit", "-q", "-m", "Inner")
    git(path, "add", "inner")
    git(path, "commit", "-q", "-m", "A link to it")
    git(inner, "config", "filter.evil.clean", str(evil))
    git(inner, "config", "core.fsmonitor", str(evil))
    (inner / "x").write_text("y")
    (path / "new.txt").write_text("x")

    repo.worktrees.commit_all("u", "Work")
    repo.worktrees.diff("u", repo.main)

    assert not canary.exists()
    subprocess.run(["git", "status"], cwd=path, capture_output=True, check=False)
    assert canary.exists(), "the trap itself must work"


# what hangs


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes"])
def test_f24_a_pipe_that_git_wants_to_read_ends_at_the_deadline_in_one_line(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = repo.unit("u")
    (path / "work.txt").write_text("work")
    os.mkfifo(path / "pipe")
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    monkeypatch.setattr(leftovers, "STATUS_TIMEOUT", 0.3)

    with pytest.raises(GitError, match=r"took more than 0\.3 s and was stopped") as caught:
        repo.worktrees.commit_all("u", "Work")

    assert "\n" not in str(caught.value)
    (path / name).unlink()
    assert repo.worktrees.commit_all("u", "Work") == repo.tip("u")
    assert "work.txt" in repo.files_of("orch/u")


def test_f24_a_pipe_in_place_of_a_worktrees_git_file_holds_nobody_up(repo: Repo) -> None:
    path = repo.unit("u")
    (path / ".git").unlink()
    os.mkfifo(path / ".git")

    assert place_of(path) is None
    with pytest.raises(WorkspaceError, match="was replaced by something"):
        repo.unit("u")


def test_f24_a_pipe_in_place_of_a_file_counts_as_the_file_deleted(repo: Repo) -> None:
    path = repo.unit("u")
    (path / "a.txt").unlink()
    os.mkfifo(path / "a.txt")

    assert repo.worktrees.commit_all("u", "Work") == repo.tip("u")

    assert "a.txt" not in repo.files_of("orch/u")
    assert repo.advance(repo.built("u")) == merge.Advanced()
    repo.worktrees.remove("u", "main")
