"""A real git repository with agents that are shell scripts, for tests of the whole core."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator_app.model import Unit
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.stopping import Stop
from orchestrator_app.testing import Subscriber, assert_consistent

TIMEOUT = 20.0
FILE_LINES = "one\ntwo\nthree\n"


class GitProject:
    """A repository with `file.txt`, settings, and a script for each phase of each unit (none: the phase just passes).

    The scripts lie beside the repository, not in it. `$HERE` is that place: scripts leave word there.
    """

    def __init__(
        self,
        folder: Path,
        wait_until: Callable[..., Any],
        phases: str = "IMPLEMENT MERGE",
        settings: str = "",
        more: str = "",
    ) -> None:
        self._wait_until = wait_until
        self.root, self.here = folder / "repository", folder / "scripts"
        self.root.mkdir(parents=True)
        self.here.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Tester")
        self.git("config", "user.email", "tester@localhost")
        self.write("file.txt", FILE_LINES)
        listed = ", ".join(f'"{phase}"' for phase in phases.split())
        self.write(
            "orchestrator.toml",
            f"[project]\ngrace = 2\n{settings}\n[workflow]\nphases = [{listed}]\n[retry]\ndelay = 0.1\n{more}\n"
            f'[agents.script]\ncommand = ["/bin/sh", "-c", "run={self.here}/$ORCH_UNIT.$ORCH_PHASE;'
            f' test ! -e $run || . $run"]\nenv = {{HERE = "{self.here}"}}\n',
        )
        self.commit("the beginning")
        self.orchestrator: Orchestrator | None = None

    # -- the repository

    def git(self, *args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(["git", *args], cwd=cwd or self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)

    def on_main(self, name: str) -> str | None:
        """The content of a file on the base branch, None if it isn't there."""
        done = subprocess.run(["git", "show", f"main:{name}"], cwd=self.root, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def worktree(self, unit: str) -> Path:
        return self.root / ".orchestrator" / "worktrees" / unit

    def run_dir(self, unit: str, attempt: int = 1) -> Path:
        return self.root / ".orchestrator" / "runs" / unit / str(attempt)

    # -- agents

    def script(self, unit: str, phase: str = "IMPLEMENT", *, does: str) -> None:
        (self.here / f"{unit}.{phase}").write_text(textwrap.dedent(does))

    def word(self, name: str) -> str | None:
        """What a script left in `$HERE/NAME`."""
        path = self.here / name
        return path.read_text() if path.exists() else None

    def leave(self, name: str) -> None:
        """Leave word for a script that waits for it."""
        (self.here / name).touch()

    # -- the orchestrator

    def start(self) -> Orchestrator:
        self.orchestrator = Orchestrator(load_project(self.root))
        self.subscriber = Subscriber(self.orchestrator.board)  # from the first row on, which a start replays
        self.orchestrator.start()
        return self.orchestrator

    def stop(self, how: Stop = Stop.AGENTS) -> None:
        """Stop in order, with the invariants checked; nothing is left running unless it is to be."""
        orchestrator, self.orchestrator = self.orchestrator, None
        if orchestrator is None:
            return
        try:
            self.wait(lambda: self._sound(orchestrator), "a consistent log")
        finally:
            orchestrator.stop(how)

    def _sound(self, orchestrator: Orchestrator) -> bool:
        seq = orchestrator.board.seq
        try:
            assert_consistent(orchestrator.log, orchestrator.board, self.subscriber)
        except AssertionError:
            *_, newest = orchestrator.log.read()
            if orchestrator.board.seq == seq == newest.seq:  # nothing went on meanwhile: it is a fault
                raise
            return False
        return True

    def restart(self, how: Stop = Stop.AGENTS) -> Orchestrator:
        self.stop(how)
        return self.start()

    def submit(self, *names: str, **fields: Any) -> None:
        self.orchestrator.request("submit", units=[{"name": name, **fields} for name in names]).result(TIMEOUT)

    def ask(self, kind: str, unit: str, **args: Any) -> dict[str, Any]:
        return self.orchestrator.request(kind, unit, **args).result(TIMEOUT)

    def unit(self, name: str) -> Unit:
        return self.orchestrator.board.row(name)

    def item(self, name: str):
        """The open attention item of the unit."""
        return self.orchestrator.board.attention[self.unit(name).item]

    def until(self, unit: str, *statuses: str, **fields: Any) -> Unit:
        """Wait until the unit is in one of the statuses, with these fields."""

        def there() -> Unit | None:
            row = self.unit(unit)
            same = all(getattr(row, name) == value for name, value in fields.items())
            return row if row.status in statuses and same else None

        wanted = f"{unit} to be {' or '.join(statuses)} {fields or ''}"
        try:
            return self.wait(there, wanted)
        except BaseException:
            print(f"{unit}: {self.unit(unit)}\n{self.story(unit)}", file=sys.stderr)
            raise

    def wait(self, condition: Callable[[], object], what: str) -> Any:
        return self._wait_until(condition, TIMEOUT, what)

    def story(self, unit: str) -> list[str]:
        """The triggers that moved the unit, in order."""
        rows = self.orchestrator.rows("SELECT trigger FROM transition WHERE unit = ? ORDER BY seq", [unit])
        return [row["trigger"] for row in rows]

    def reasons(self, unit: str, trigger: str) -> list[str]:
        sql = "SELECT reason FROM transition WHERE unit = ? AND trigger = ? ORDER BY seq"
        return [row["reason"] for row in self.orchestrator.rows(sql, [unit, trigger])]
