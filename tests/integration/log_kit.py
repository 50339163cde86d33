"""Logs as crashes leave them: of either format, with damaged files, killed or failing at the n-th effect.

Run as a program it kills copies of a project at the first, second, third … effect of an action, until one gets through:
`python log_kit.py ACTION SOURCE FOLDER STEP [ARGUMENT]`. It forks before DuckDB is used.

`LOG_TRIALS=20 pytest tests/integration/test_log_*.py` tries twenty times as much as the build does.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import duckdb

from orchestrator_app import keeping
from orchestrator_app.states import MOVES, Status, Trigger
from orchestrator_app.store.files import WORKSHOPS
from orchestrator_app.store.log import Log, utc
from orchestrator_app.store.records import Event, Record, Transition
from orchestrator_app.store.recovery import CONFIG

HERE = Path(__file__).parent
#: How many times as much is tried as in an ordinary run.
TRIALS = int(os.environ.get("LOG_TRIALS", "1"))
#: What changes files. Each is killed or fails before it has done anything, a copy after it has done half.
EFFECTS = ("replace", "link", "unlink", "rmdir", "mkdir", "fsync")


def submit(seq: int) -> Transition:
    fields = {"prompt": "do it", "after": [], "priority": seq}
    return Transition(
        seq, f"u{seq}", 1, Status.NEW, Trigger.SUBMIT, Status.READY, "RUN", 0, "operator:ann", f"c{seq}", None,
        {"set": fields}, utc(1_700_000_000 + seq),
    )  # fmt: skip


def note(seq: int) -> Event:
    return Event(
        seq, None, None, "note", "info", "hello", {"n": seq}, None, "scheduler", f"c{seq}", utc(1_700_000_000 + seq)
    )


def move(seq: int, unit: str, version: int, trigger: Trigger, source: Status, at: float) -> Transition:
    return Transition(
        seq, unit, version, source, trigger, MOVES[source, trigger], "RUN", 1, "scheduler", f"c{seq}", None, {}, utc(at)
    )


def three(seq: int) -> list[Record]:
    """The rows of one commit, behind row `seq`."""
    at = submit(seq + 1).occurred_at
    return [record._replace(occurred_at=at) for record in (submit(seq + 1), note(seq + 2), submit(seq + 3))]


def fill(log: Log, commits: int, *, checkpoint_at: tuple[int, ...] = ()) -> int:
    """Make that many commits; the number of the last row."""
    for commit in range(commits):
        if commit in checkpoint_at:
            log._upkeep.put_in_now()
        log.append(three(log.seq))
    return log.seq


def abandon(log: Log) -> None:
    """Leave the files as a killed process does: without a last checkpoint."""
    log._journal.close()
    log._let_go()


def numbers(folder: Path) -> list[int]:
    """The rows that the log has, when it is opened as by a server; its invariants hold."""
    log = Log(folder)
    try:
        assert keeping.report(log)["faults"] == []
        return [record.seq for record in log.read()]
    finally:
        log.close()


def old_log(folder: Path) -> int:
    """A project of format 1 as a killed server leaves it, with a clock that was set back; its last row's number."""
    folder.mkdir(parents=True)
    connection = duckdb.connect(str(folder / "orchestrator.duckdb"), config=CONFIG)
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    connection.execute((HERE / "log_format_1.sql").read_text())
    moves = [[source, trigger, target] for (source, trigger), target in MOVES.items()]
    connection.executemany("INSERT INTO rule VALUES (?, ?, ?)", moves)
    connection.execute("INSERT INTO meta VALUES ('schema', '1')")
    connection.execute("CHECKPOINT")
    began = 1_700_000_100.0
    rows = [
        *(submit(seq) for seq in range(1, 11)),
        move(11, "u1", 2, Trigger.START, Status.READY, began),
        move(12, "u1", 3, Trigger.LOSE, Status.RUNNING, began - 3_600),
        move(13, "u1", 4, Trigger.START, Status.READY, began - 3_500),
    ]
    for row in rows:
        values = [*row[:-2], "{}", row.occurred_at] if row.detail == {} else [*row[:-2], '{"set":{}}', row.occurred_at]
        connection.execute(f"INSERT INTO transition VALUES ({', '.join('?' * len(values))})", values)
    connection.close()
    return len(rows)


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: to this process its disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def interrupted(at: int, how: Callable[[], None], effects: tuple[str, ...] = EFFECTS) -> Iterator[list[int]]:
    """Do `how` instead of the effect with that number; the list that is given has how many there were."""
    count = [0]

    def due(path: object) -> bool:
        # What happens to a draft is all the same, and so is what rmtree does, with names only.
        counts = isinstance(path, int) or (os.path.isabs(path) and not {*WORKSHOPS} & {*Path(path).parts[:-1]})
        count[0] += counts
        return counts and count[0] == at

    def wrapped(real: Callable) -> Callable:
        def effect(*args, **kwargs):
            if due(args[-1]):
                how()
            return real(*args, **kwargs)

        return effect

    copyfile = shutil.copyfile

    def half(source, target, **kwargs):
        if due(target):
            with open(source, "rb") as reader, open(target, "wb") as writer:
                writer.write(reader.read(os.path.getsize(source) // 2))
            how()
        return copyfile(source, target, **kwargs)

    patches = [mock.patch.object(os, name, wrapped(getattr(os, name))) for name in effects]
    patches.append(mock.patch.object(shutil, "copyfile", half))
    for patch in patches:
        patch.start()
    try:
        yield count
    finally:
        for patch in patches:
            patch.stop()


ACTIONS: dict[str, Callable[..., object]] = {
    "open": Log,
    "repair": keeping.repair,
    "restore": lambda state, file: keeping.restore(state, Path(file)),
}


def kill_everywhere(action: str, source: Path, folder: Path, *argument: str, step: int = 1) -> list[Path]:
    """Copies of a project, each killed at another effect of an action: at each, or one of `step` where time is dear."""
    step = max(1, step // TRIALS)
    command = [sys.executable, __file__, action, str(source), str(folder), str(step), *argument]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    return sorted(folder.iterdir())


def _main(action: str, source: str, folder: str, step: str, *argument: str) -> None:
    for at in range(1, 500, int(step)):
        copy = Path(folder) / f"{at:03d}"
        shutil.copytree(source, copy)
        child = os.fork()
        if not child:
            with interrupted(at, lambda: os.kill(os.getpid(), signal.SIGKILL), EFFECTS[:-1]):
                ACTIONS[action](copy, *argument)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            shutil.rmtree(copy)
            sys.exit(os.WEXITSTATUS(status))
    sys.exit("it never got through")


if __name__ == "__main__":
    _main(*sys.argv[1:])
