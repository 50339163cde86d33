"""The operator's checkout follows the base branch whole or not at all, wherever git and the server die on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workspace_kit import LINES, Repo, git, write_program

from orchestrator_app.errors import PassingError
from orchestrator_app.workspace import begun, merge
from orchestrator_app.workspace.worktrees import open_place

THEIRS = ["M  app/core.py", " M b.txt", "?? mine.txt", "?? new/mine.txt"]


class Moving:
    """A merge that changes files in every way, and the operator's own changes beside it."""

    def __init__(self, tmp_path: Path) -> None:
        self.repo = repo = Repo(tmp_path)
        root = repo.root
        (root / ".gitattributes").write_text("*.crlf text eol=crlf\n")
        (root / "old").mkdir()
        (root / "deep").mkdir()
        for name in ("changed.txt", "gone.txt", "run.sh", "old/gone.txt", "folder", "deep/file", "unix.crlf"):
            (root / name).write_text(LINES)
        (root / "link").symlink_to("a.txt")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "Of every kind")
        path = repo.unit("u")
        for name in ("gone.txt", "old/gone.txt", "folder", "deep/file", "link"):
            (path / name).unlink()
        (path / "deep").rmdir()
        (path / "folder").mkdir()
        (path / "new").mkdir()
        for name in ("folder/file", "deep", "new/file.txt", "added ü.txt", "changed.txt"):
            (path / name).write_text(f"{name} by u\n" + LINES)
        (path / "link").symlink_to("changed.txt")
        (path / "run.sh").chmod(0o755)
        (path / "unix.crlf").write_text(LINES + "and more\n")
        repo.worktrees.commit_all("u", "Work of u")
        self.built = repo.built("u")
        self.new = tmp_path / "new"
        git(root, "worktree", "add", "-q", "--detach", str(self.new), self.built.new)
        names = git(root, "diff", "--name-only", "--no-renames", "-z", self.built.old, self.built.new).split("\0")[:-1]
        # as git does it: what goes is taken away first
        self.names = sorted(names, key=lambda name: os.path.lexists(self.new / name) and not (self.new / name).is_dir())
        (root / "b.txt").write_text("uncommitted\n")
        (root / "app" / "core.py").write_text("staged\n")
        git(root, "add", "app/core.py")
        (root / "new").mkdir()
        for name in ("mine.txt", "new/mine.txt"):
            (root / name).write_text("untracked\n")

    def begin(self) -> None:
        place = open_place(self.repo.root)
        begun.begin(place, self.repo.state, place, "refs/heads/main", self.built.old, self.built.new)

    def write(self, name: str, part: float = 1.0) -> None:
        """One file as git brings it to the new commit, or the beginning of it."""
        there, here = self.new / name, self.repo.root / name
        if here.is_symlink() or here.is_file():
            here.unlink()
            if not os.path.lexists(there) and not any(here.parent.iterdir()):
                here.parent.rmdir()
        if os.path.lexists(there) and not there.is_dir():
            here.parent.mkdir(exist_ok=True)
            shutil.copy2(there, here, follow_symlinks=False)
            if part < 1 and not here.is_symlink():
                os.truncate(here, int(here.stat().st_size * part))

    def advance(self) -> object:
        return self.repo.advance(self.built)

    @property
    def note(self) -> Path:
        return self.repo.state / begun.NOTE

    def status(self) -> list[str]:
        return git(self.repo.root, "status", "--porcelain", "-uall").splitlines()

    def locks(self) -> list[Path]:
        return [*(self.repo.root / ".git").rglob("*.lock")]


@pytest.fixture
def moving(tmp_path: Path) -> Moving:
    return Moving(tmp_path)


def test_f24_a_checkout_cut_short_after_any_file_is_put_back_and_then_moved(moving: Moving) -> None:
    repo = moving.repo
    for many in range(len(moving.names) + 1):
        moving.begin()
        for name in moving.names[:many]:
            moving.write(name)
        if many < len(moving.names):
            moving.write(moving.names[many], part=many % 3 / 2)
        for lock in ("index.lock", "HEAD.lock", "refs/heads/main.lock"):
            (repo.root / ".git" / lock).write_text("")

        merge.recover(repo.root, repo.state)

        assert moving.status() == THEIRS, moving.names[: many + 1]
        assert (repo.main, moving.locks(), moving.note.exists()) == (moving.built.old, [], False)

    assert moving.advance() == merge.Advanced()
    assert (repo.main, moving.status()) == (moving.built.new, THEIRS)


def test_f24_an_index_written_before_the_branch_was_moved_is_put_back_too(moving: Moving) -> None:
    repo = moving.repo
    moving.begin()
    git(repo.root, "read-tree", "-m", "-u", moving.built.old, moving.built.new)
    (repo.root / ".git" / "HEAD.lock").write_text("")
    assert "M  changed.txt" in moving.status()

    merge.recover(repo.root, repo.state)
    assert (repo.main, moving.status(), moving.locks()) == (moving.built.old, THEIRS, [])

    assert moving.advance() == merge.Advanced()
    assert (repo.main, moving.status()) == (moving.built.new, THEIRS)


def test_f24_a_branch_that_was_moved_is_left_moved(moving: Moving) -> None:
    moving.begin()
    git(moving.repo.root, "merge", "-q", "--ff-only", moving.built.new)

    assert moving.advance() == merge.Advanced()

    assert (moving.repo.main, moving.status(), moving.note.exists()) == (moving.built.new, THEIRS, False)


def test_f24_what_the_operator_changed_since_it_was_cut_short_is_kept_and_named(moving: Moving) -> None:
    repo = moving.repo
    moving.begin()
    for name in moving.names:
        moving.write(name)
    (repo.root / "changed.txt").write_text("the operator's\n")
    (repo.root / "folder" / "mine.txt").write_text("the operator's\n")

    blocked = moving.advance()

    assert isinstance(blocked, merge.Blocked) and "changed.txt" in blocked.files
    assert (repo.root / "changed.txt").read_text() == "the operator's\n"
    assert (repo.root / "folder" / "mine.txt").read_text() == "the operator's\n"
    assert moving.status() == [THEIRS[0], THEIRS[1], " M changed.txt", " D folder", "?? folder/mine.txt", *THEIRS[2:]]

    shutil.rmtree(repo.root / "folder")
    git(repo.root, "checkout", "--", "changed.txt")
    assert moving.advance() == merge.Advanced()
    assert (repo.main, moving.status()) == (moving.built.new, THEIRS)


def test_f24_what_the_operator_had_before_is_not_taken_for_gits_though_it_is_the_same(moving: Moving) -> None:
    repo = moving.repo
    shutil.copy2(moving.new / "changed.txt", repo.root / "changed.txt")
    shutil.copy2(moving.new / "added ü.txt", repo.root / "added ü.txt")
    before = moving.status()
    moving.begin()

    merge.recover(repo.root, repo.state)

    assert moving.status() == before and len(before) == len(THEIRS) + 2


def test_f24_where_the_operator_has_committed_since_nothing_is_put_back(moving: Moving) -> None:
    repo = moving.repo
    moving.begin()
    for name in moving.names:
        moving.write(name)
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-q", "-m", "All of it")
    tip = repo.main

    assert moving.advance() == merge.Moved(tip)

    assert (moving.status(), moving.note.exists()) == ([], False)


def test_f24_a_lock_that_the_operators_git_holds_is_waited_for_and_never_removed(moving: Moving, wait_until) -> None:
    repo = moving.repo
    moving.begin()
    moving.write("changed.txt")
    editor = write_program(repo.root.parent / "editor", "echo $$ > $0.pid; while test -e $0.pid; do sleep 0.02; done\n")
    (repo.root / "b.txt").write_text("to be committed\n")
    env = {**os.environ, "GIT_EDITOR": str(editor)}
    who = ["-c", "user.name=O", "-c", "user.email=o@localhost"]
    held = subprocess.Popen(["git", *who, "commit", "-q", "b.txt"], cwd=repo.root, env=env, stderr=subprocess.DEVNULL)
    wait_until((repo.root.parent / "editor.pid").exists, what="the operator's git to wait in its editor")
    lock = repo.root / ".git" / "index.lock"
    assert lock.exists()

    with pytest.raises(PassingError, match="held by another git"):
        moving.advance()
    assert lock.exists() and moving.note.exists()

    (repo.root.parent / "editor.pid").unlink()
    held.wait()
    merge.recover(repo.root, repo.state)
    assert not moving.note.exists() and " M changed.txt" not in moving.status()


@pytest.mark.parametrize("nth", [1, 3])
def test_f24_git_killed_while_it_writes_the_nth_file_leaves_the_checkout_as_it_was(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    cut = write_program(
        tmp_path / "cut",
        f"echo x >> {tmp_path}/count; test $(wc -l < {tmp_path}/count) = {nth} && kill -9 $PPID\nexec cat\n",
    )
    (tmp_path / ".gitconfig").write_text(f'[filter "cut"]\n\tsmudge = {cut}\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    (repo.root / ".gitattributes").write_text("*.cut filter=cut\n")
    git(repo.root, "add", ".gitattributes")
    git(repo.root, "commit", "-q", "-m", "Filtered")
    repo.work("u", {f"{name}.cut": name for name in "abcde"} | {"a.txt": "theirs\n"})
    built = repo.built("u")
    (tmp_path / "count").unlink(missing_ok=True)

    with pytest.raises(PassingError, match="SIGKILL"):
        repo.advance(built)
    assert (repo.main, repo.status()) == (built.old, "")
    assert [*(repo.root / ".git").rglob("*.lock")] == []

    assert repo.advance(built) == merge.Advanced()
    assert (repo.main, repo.status()) == (built.new, "")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def test_f18_all_that_is_merged_is_forced_to_the_disk_before_the_base_moves(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = repo.unit("u")
    (path / "by-the-agent.txt").write_text("committed by its own git\n")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "By the agent")
    repo.work("u", {"left/over.txt": "x"})
    built = repo.built("u")
    real, forced = os.fsync, set()

    def fsync(fd: int) -> None:
        real(fd)
        if repo.main == built.old:
            forced.add(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", fsync)
    assert repo.advance(built) == merge.Advanced()

    objects = repo.root / ".git" / "objects"
    names = [line.split()[0] for line in git(repo.root, "rev-list", "--objects", f"{built.old}..main").splitlines()]
    assert len(names) > 6
    assert {str(objects / name[:2] / name[2:]) for name in names} | {str(objects)} <= forced
    assert {str(objects / name[:2]) for name in names} <= forced
    assert str(repo.state / f"{begun.NOTE}.new") in forced


@pytest.mark.parametrize("damage", [b"", b"DIRC", bytes(4096)])
def test_f18_an_index_that_a_power_cut_has_damaged_loses_no_work(repo: Repo, damage: bytes) -> None:
    path = repo.unit("u")
    (path / "staged.txt").write_text("staged\n")
    git(path, "add", "staged.txt")
    (path / "a.txt").write_text("changed\n")
    (path / "b.txt").unlink()
    (repo.root / ".git" / "worktrees" / "u" / "index").write_bytes(damage)

    assert repo.worktrees.commit_all("u", "Work") == repo.tip("u")

    changes = git(repo.root, "diff", "--name-status", "main", "orch/u").splitlines()
    assert changes == ["M\ta.txt", "D\tb.txt", "A\tstaged.txt"]


def test_f24_a_killed_servers_git_that_hangs_is_ended_by_the_next_and_nobody_elses(
    repo: Repo, tmp_path: Path, wait_until
) -> None:
    """Its deadline died with its server."""
    fifo = repo.root / "fifo"
    os.mkfifo(fifo)
    program = (
        "import sys; from pathlib import Path\n"
        "from orchestrator_app.workspace.git import run_git\n"
        "run_git(['hash-object', 'fifo'], Path(sys.argv[1]), timeout=600)\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(repo.root)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    operators = subprocess.Popen(["git", "hash-object", "fifo"], cwd=repo.root, stdout=subprocess.DEVNULL)
    git_of = wait_until(lambda: children(server.pid), what="the server's git to hang")[0]

    repo.worktrees.end_orphans()
    assert alive(git_of), "its server lives"
    server.kill()
    server.wait()
    repo.worktrees.end_orphans()

    assert not alive(git_of) and operators.poll() is None
    operators.kill()
    operators.wait()


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found if Path(f"/proc/{one}/cmdline").read_bytes().endswith(b"hash-object\0fifo\0")]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
