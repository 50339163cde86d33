"""A unit's life in git, from its worktree to its removal, in a process of its own that is killed where it is told.

`python git_driver.py ROOT` reads a plan a line (`unit`, `way`, `count`), lives that life in a fork, and answers with a
line: `killed`, how often the way was `passed`, and the `faults` that were said. What is done is kept in a file beside
the repository, as the log would; a life that was cut short is taken up where the scheduler would take it up.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from orchestrator_app.executors.base import Exited
from orchestrator_app.settings import load_project
from orchestrator_app.workspace import crew as crew_module
from orchestrator_app.workspace.crew import Botched, Crew, Delayed, MergeAdvanced, MergeBuilt
from orchestrator_app.workspace.merge import Advanced, Built, Moved, Nothing

#: What becomes of the n-th git: `$D` is a moment, `$$` what the server started, `$PPID` the server.
WAYS = {
    "git is killed before": "kill -9 $$",
    "git is killed in the middle": 'exec 3<&0; "$@" <&3 & sleep $D; kill -9 $!; wait $!; kill -9 $$',
    "git is killed after": '"$@"; kill -9 $$',
    "both are killed in the middle": 'exec 3<&0; "$@" <&3 & sleep $D; kill -9 $PPID $!; wait $!; kill -9 $$',
    "the server is killed, git goes on": 'kill -9 $PPID; exec "$@"',
    "the server is killed after git": '"$@"; kill -9 $PPID',
}
#: The n-th git fails, and the next ones don't.
FULL = {
    "there is no room for git": 'trap "" XFSZ; ulimit -f 0; exec "$@"',
    "the disk is read-only for git": 'echo "fatal: cannot create it: Read-only file system" >&2; exit 128',
}
KILLED, NO_ROOM = "the server is killed before an effect", "there is no room for an effect of the server"
EFFECTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod"}


class Life:
    def __init__(self, root: Path, plan: dict) -> None:
        self.root, self.unit, self.plan = root, plan["unit"], plan
        self.project = load_project(root)
        self.results: queue.Queue = queue.Queue()
        self.passed, self.faults = 0, []

    # -- being killed

    def arm(self) -> None:
        way, count = self.plan.get("way"), self.plan.get("count")
        if way in WAYS | FULL:
            real = subprocess.Popen

            def popen(argv, **kwargs):
                self.passed += 1
                if self.passed == count:
                    moment = self.plan.get("moment", 0.003)
                    argv = ["/bin/sh", "-c", f"D={moment}; {(WAYS | FULL)[way]}", "sh", *argv]
                return real(argv, **kwargs)

            subprocess.Popen = popen
        elif way:
            sys.addaudithook(self.watch)

    def watch(self, event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, int) or not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event not in EFFECTS:
            return
        ours = threading.current_thread().name.startswith("orch-git")
        if not ours or not str(args[0]).startswith(str(self.root)):
            return
        self.passed += 1
        if self.passed == self.plan["count"]:
            if self.plan["way"] == NO_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))
            os.kill(os.getpid(), signal.SIGKILL)

    # -- living

    def done(self, unit: str = "") -> list[str]:
        file = self.root.parent / f"done-{unit or self.unit}"
        return file.read_text().split() if file.exists() else []

    def note(self, step: str) -> None:
        with (self.root.parent / f"done-{self.unit}").open("a") as out:
            out.write(f"{step}\n")

    def result(self):
        """The next result of the crew, past the delays."""
        while isinstance(found := self.results.get(timeout=60), Delayed):
            self.faults.append(found.why)
        return found

    def ask(self, what, *args, **kwargs):
        """Have the crew do something until it is done: a passing fault is tried again, as the scheduler does."""
        for _ in range(5):
            what(*args, **kwargs)
            found = self.result()
            if not isinstance(found, Botched):
                return found
            self.faults.append(found.why)
            if not found.passing:
                break
        raise AssertionError(f"{what.__name__}: {self.faults}")

    def live(self) -> None:
        crew_module.PAUSES = (0.01,) * 5
        crew = Crew(self.project, self.results.put)
        unit = self.unit
        crew.sweep(lambda name: "advance" in self.done(name))
        if "seal" not in self.done():
            path = self.ask(crew.prepare, unit, 1, None).path
            (path / "a.txt").write_text(f"{unit} was here\n")
            (path / unit).mkdir(exist_ok=True)
            (path / unit / "new.txt").write_text(f"by {unit}\n")
            exited = Exited(unit, 1, 0, None, "exit", "", 0.0, 0.0, 0)
            self.ask(crew.seal, unit, 1, "IMPLEMENT", exited)
            self.note("seal")
        while "advance" not in self.done():
            built = self.ask(crew.build_merge, unit, 1, to_verify=True)
            assert isinstance(built, MergeBuilt), built
            if isinstance(built.result, Built):
                advanced = self.ask(crew.advance, unit, 1, built.result.old, built.result.new)
                assert isinstance(advanced, MergeAdvanced) and isinstance(advanced.result, Advanced | Moved), advanced
                if isinstance(advanced.result, Moved):
                    continue
            else:
                assert isinstance(built.result, Nothing), built
            self.note("advance")
        crew.clean(unit, merged=True)
        branch = self.root / ".git" / "refs" / "heads" / "orch" / unit
        left = (self.project.state / "worktrees" / unit, branch, branch.with_name(f"{unit}.lock"))
        until = time.monotonic() + 20
        while any(one.exists() for one in left):
            assert time.monotonic() < until, f"waited in vain for {unit} to be removed"
            time.sleep(0.005)
        crew.close()


def main(root: Path) -> None:
    for line in sys.stdin:
        plan = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                life = Life(root, plan)
                life.arm()
                life.live()
                said = {"passed": life.passed, "faults": life.faults}
            except BaseException:
                said = {"error": traceback.format_exc()}
            os.write(write, json.dumps(said).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as answer:
            text = answer.read()
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status), **json.loads(text or b"{}")}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
