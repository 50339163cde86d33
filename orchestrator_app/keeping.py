"""Check, repair, backup and restore of a project's log, by whoever is not its server."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from orchestrator_app.claim import open_state, server_info
from orchestrator_app.errors import AlreadyServedError, DamagedLogError, NotFoundError, OrchError, UsageError
from orchestrator_app.gate import new_cause
from orchestrator_app.leftovers import Unknown, unknown_attempts, who_runs
from orchestrator_app.model import Board
from orchestrator_app.operators import default_operator
from orchestrator_app.store.backup import Content, content_of, copy_stopped, make_whole, place, take_in
from orchestrator_app.store.files import COPY, DATABASE, WAL, empty_folder, stamp
from orchestrator_app.store.log import Log, utc
from orchestrator_app.store.mirror import high_water
from orchestrator_app.store.reading import ReadingLog
from orchestrator_app.store.records import Event
from orchestrator_app.store.rescue import Rescue
from orchestrator_app.store.swap import finish, replace_log
from orchestrator_app.testing import board_faults, invariant_faults

#: What a log consists of, beside the run directories.
LOG_FILES = (DATABASE, WAL, COPY, "journal", "journal.previous", "export")
#: How many commits a repair goes back for one where every unit is consistent.
MOST_STEPS_BACK = 20


@contextmanager
def unserved(state: Path) -> Iterator[None]:
    """No server runs for the project, and none starts meanwhile. Raises AlreadyServedError."""
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyServedError(_served(state)) from None
        if server_info(state) is not None:
            raise AlreadyServedError(_served(state))
        yield
    finally:
        os.close(lock)


def _served(state: Path) -> str:
    info = server_info(state)
    who = f"served by process {info['pid']}" if info else "being served, or about to be"
    return f"{state.parent} is {who}: end that with `orch stop` first"


# -- check


def report(log: Log) -> dict[str, Any]:
    """`faults`, a line each; `seq`, the number of records looked at; `units`, how many units they make."""
    board = Board()  # the log's own words, replayed: a running board goes on meanwhile
    board.fold(log.read())
    faults = [*invariant_faults(log), *board_faults(board), *filter(None, [log.journal_fault])]
    return {"faults": faults, "seq": board.seq, "units": len(board.units)}


def check(state: Path) -> dict[str, Any]:
    """The same for a stopped project, with what its other files tell. Raises StoreError when it can't be opened now."""
    try:
        log = ReadingLog(state)
        try:
            answer = report(log)
        finally:
            log.close()
        unknown = unknown_attempts(state, _board_of(state))
    except DamagedLogError as error:
        return {"faults": [str(error)], "seq": None, "units": None}
    if (witnessed := high_water(state / "export")) > answer["seq"]:
        answer["faults"].append(
            f"the log ends at row {answer['seq']}, and the Parquet files under export/ at row {witnessed}: "
            "`orch check --repair` puts those rows back"
        )
    answer["faults"] += [
        f"{one} has a run directory, and the log doesn't know it: move {state / one.path} away, or its next start fails"
        for one in unknown
    ]
    return answer


# -- repair


def repair(state: Path) -> dict[str, Any]:
    """Restore what the files of a stopped project's damaged log still hold: `told` says what, a line each; `lost`,
    whether something could not be. The damaged files are kept.

    Raises AlreadyServedError, StoreError or OSError; then nothing has changed.
    """
    open_state(state)
    with unserved(state):
        finish(state)
        try:
            log = Log(state)
        except DamagedLogError as error:
            return _rescue(state, str(error).partition(": `orch")[0])
        log.close()
        return {"told": [log.recovered or "nothing to repair: the log's files are sound"], "lost": False, "kept": None}


def _rescue(state: Path, damage: str) -> dict[str, Any]:
    work = empty_folder(state / "repairing")
    kept = f"damaged/{stamp()}"
    try:
        rescue = Rescue(state, work)
        try:
            missing, is_end_known = rescue.missing(), rescue.is_end_known()
            end = _write_sound(rescue, work / "new")
            if not end:
                raise DamagedLogError(
                    f"{damage}, and none of its files holds a row that can be read: `orch restore` a backup, or move "
                    f"{state} away and begin anew"
                )
            rest, behind = rescue.write_rest(work / "rows", end)
        finally:
            rescue.close()
        data = {"end": end, "missing": [[*span] for span in missing], "later": rest}
        message = f"the log was repaired: its rows up to {end} were restored, the damaged files are in {kept}"
        board = _annotate(work / "new", "repair", message, data)
        unknown = refuse_live(state, unknown_attempts(state, board))
        if rest:
            (state / kept).mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(work / "rows", state / kept / "rows")
        replace_log(state, work / "new" / DATABASE, kept, [*LOG_FILES, *(one.path for one in unknown)])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    behind |= {one.unit for one in unknown}
    told = [damage, *(f"{rows} rows restored from {source}" for source, rows in rescue.taken.items())]
    if missing:
        told.append(f"rows {', '.join(map(str, missing[:10]))} are in none of the files: the log now ends at row {end}")
    elif not is_end_known:
        told.append(f"the log now ends at row {end}; the journal is damaged too, so nobody can tell what came behind")
    if rest:
        told.append(f"{rest} rows behind that are kept as Parquet files in {state / kept / 'rows'}, outside of the log")
    if unknown:
        names = ", ".join(map(str, unknown[:10]))
        told.append(f"run directories that the log doesn't know any more were moved aside: {names}")
    if behind:
        told.append(f"units that may have come further than the log says: {', '.join(sorted(behind)[:20])}")
    told.append(f"the damaged files are kept in {state / kept}")
    return {"told": told, "lost": bool(missing or rest or unknown or not is_end_known), "kept": str(state / kept)}


def _write_sound(rescue: Rescue, folder: Path) -> int:
    """Write the log up to the last place where every unit stands as its blockers and items say; that row's number.

    0: there is nothing to write. What was wrong before is no reason to go back very far.
    """
    ends = list(islice(rescue.ends(), MOST_STEPS_BACK))
    for end in ends:
        rescue.write(empty_folder(folder) / DATABASE, end)
        if not board_faults(_board_of(folder)):
            return end
    if ends:
        rescue.write(empty_folder(folder) / DATABASE, ends[0])
    return ends[0] if ends else 0


def _board_of(folder: Path) -> Board:
    log, board = ReadingLog(folder), Board()
    try:
        board.fold(log.read())
    finally:
        log.close()
    return board


# -- backup


def backup(
    state: Path, target: Path, *, force: bool, snapshot: Callable[[str], int] | None, tell: Callable[[str], None]
) -> tuple[Content, int]:
    """Write the whole log into one file; what is in it, and its size.

    `snapshot(folder)` has the running server copy its files there, and says up to which row; None: there is no
    server. `tell` is told what is being done. Raises UsageError, StoreError or OSError; then `target` is untouched.
    """
    if target.exists() and not force:
        raise OrchError(f"{target} is there already: name another file, or say --force to replace it")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is no directory: make it first")
    with _partial(target) as folder:
        if snapshot is not None:
            tell("copying while the server runs")
            seq = snapshot(str(folder))
        else:
            with unserved(state):
                finish(state)
                if not (state / DATABASE).exists():
                    raise NotFoundError(f"{state.parent} has no log yet: start it with `orch serve`")
                tell("copying")
                seq = high_water(state / "export")
                copy_stopped(state, folder)
        tell("checking every row")
        try:
            content = make_whole(folder, seq)
        except DamagedLogError:
            raise DamagedLogError(
                f"the log of {state.parent} is damaged: `orch check --repair` restores what can be restored"
            ) from None
        place(folder / DATABASE, target, force=force)
    return content, target.stat().st_size


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A folder beside the file to come, for what is not finished; one that a crash left is cleared."""
    folder = target.with_name(f"{target.name}.partial")
    lock = os.open(target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise OrchError(f"another backup to {target} is under way: wait for it") from None
    try:
        yield empty_folder(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        target.with_name(f".{target.name}.lock").unlink(missing_ok=True)
        os.close(lock)


# -- restore


def restore(state: Path, file: Path) -> dict[str, Any]:
    """Put a backup in the place of the log of a stopped project, whose present state is kept beside.

    Run directories of attempts that the backup doesn't know are moved to the same place, so that their numbers are free
    again. Raises UsageError, StoreError, AlreadyServedError or OSError; then nothing has changed.
    """
    real = file.resolve()
    if not real.is_file():
        raise NotFoundError(f"{file} is no file")
    if {"worktrees", "runs"} & set(real.parts) and real.is_relative_to(state.resolve()):
        raise UsageError(f"{file} lies where agents write, so it may be anything: copy it elsewhere if you trust it")
    open_state(state)
    with unserved(state):
        finish(state)
        staged = empty_folder(state / "restoring")
        try:
            take_in(real, staged)
            content = content_of(staged / DATABASE)
            kept = f"replaced-{stamp()}"
            words = f"the log was restored from a backup that ends at row {content.seq}; what it replaced is in {kept}"
            board = _annotate(staged, "restore", words, {"file": str(real), "rows": content.rows})
            unknown = refuse_live(state, unknown_attempts(state, board))
            replace_log(state, staged / DATABASE, kept, [*LOG_FILES, *(one.path for one in unknown)])
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return {
        "file": str(real),
        "seq": content.seq,
        "rows": content.rows,
        "newest": content.newest,
        "units": len(board.units),
        "kept": str(state / kept),
        "attempts_set_aside": [str(one) for one in unknown],
    }


def refuse_live(state: Path, unknown: Sequence[Unknown]) -> Sequence[Unknown]:
    """The same attempts, when none of them runs. Raises OrchError: nobody would answer for them any more."""
    for one in unknown:
        pid = who_runs(state, one)
        if pid is not None:
            raise OrchError(
                f"{one} still runs, and the log would not know it: wait for it, or end it with `kill {pid}`, then try "
                "again; nothing was changed"
            )
    return unknown


def _annotate(folder: Path, type: str, message: str, data: dict[str, Any]) -> Board:
    """Say in the history what was done to it; the board that the log makes."""
    log = Log(folder)
    try:
        seq, actor = log.seq + 1, f"operator:{default_operator()}"
        log.append([Event(seq, None, None, type, "warning", message, data, None, actor, new_cause(), utc(time.time()))])
        board = Board()
        board.fold(log.read())
    finally:
        log.close()
    return board
