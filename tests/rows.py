"""Every fault and attack that this project is to survive, and the tests that prove it: docs/faults.md, written by

    python -m tests.rows > docs/faults.md

A test belongs to a row when its name begins with it: `test_f19_…`, `test_a7_…`. A row without a test says why.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"test_([af]\d+)_(?:and_)?(.+)")


class Row(NamedTuple):
    """`untested`: why there is no test, where there is none."""

    what: str
    holds: str
    untested: str = ""


FAULTS: dict[str, Row] = {
    "F1": Row("killed between the commit of a start and the spawn", "closed as lost, started anew, never twice"),
    "F2": Row("killed between a spawn and hearing of it", "the process is found and adopted, never doubled"),
    "F3": Row("killed between a commit and its broadcast", "every page shows it after it has reconnected"),
    "F4": Row("a watcher or one browser session raises", "it is committed, all others see it"),
    "F5": Row("a change that is not broadcast", "impossible: one door writes, readers pull from the log"),
    "F6": Row("unblocking races with dispatch or a ruling", "never BLOCKED by what is done, never started before"),
    "F7": Row("two rulings at once close a cycle", "the second is refused in the same transaction"),
    "F8": Row("the same request twice, after a lost reply or a double click", "one effect, the same answer"),
    "F9": Row("a pid that belongs to someone else by now", "never adopted, never signalled"),
    "F10": Row("the wall clock is set, backwards too", "nothing fires early or twice; order goes by seq"),
    "F11": Row("the machine is suspended", "time asleep counts as none: nothing is stopped on waking"),
    "F12": Row("an agent hangs", "noticed, shown, and acted on as the settings say; limits of time hold"),
    "F13": Row("a flood of output, one endless line", "disk and memory are bounded, the end stays live"),
    "F14": Row("a child of the agent keeps its output open", "the attempt ends with the agent's exit"),
    "F15": Row("zombies and orphans", "none of ours is left"),
    "F16": Row("the server is killed while agents run", "they go on, and their exits become outcomes"),
    "F17": Row("killed during a checkpoint", "the log opens, nothing acknowledged is lost"),
    "F18": Row("the machine loses power", "as F17; simulated with torn files"),
    "F19": Row("the disk is full", "nothing is lost, nothing new starts, all goes on by itself afterwards"),
    "F20": Row("a write can't be forced to the disk", "never believed: it is written anew and read back"),
    "F21": Row("another process holds the log open", "one line that says who; nothing starts half"),
    "F22": Row("two servers on one project", "the second is refused and says who holds it"),
    "F23": Row("a worktree, branch or repository is gone", "the unit goes to a person with the reason, others go on"),
    "F24": Row("stale lock files, half-made worktrees, half a merge", "repaired or reported; a merge is whole or not"),
    "F25": Row("merge conflicts of every kind", "the files are shown, a retry is safe"),
    "F26": Row("a page reconnects after changes", "it equals the log: nothing twice, nothing missing"),
    "F27": Row("a slow or dead browser", "bounded memory, nobody else waits"),
    "F28": Row("very many sessions", "memory is given back, changes still arrive"),
    "F29": Row("something blocks the server's loop", "it is noticed and said"),
    "F30": Row("a document is touched from a thread", "impossible: only its own loop touches it"),
    "F31": Row("a session is destroyed in between", "nothing happens, its feed is released"),
    "F32": Row("the scheduler's thread fails or dies", "it starts over, or health, header and status say so"),
    "F33": Row("signals during a stop, twice", "orderly first, at once the second time"),
    "F34": Row("an older or newer log", "older: migrated with a backup beside; newer: refused in one line"),
    "F35": Row("a worker on another machine is lost", "", "attempts run on this machine only; there is no such worker"),
    "F36": Row("a unit's name is used again", "refused: a name is for ever"),
}
ATTACKS: dict[str, Row] = {
    "A1": Row("a foreign page sends a request (CSRF)", "refused, whatever the method"),
    "A2": Row("DNS rebinding", "refused before any route, sockets too"),
    "A3": Row("a foreign page opens a WebSocket", "refused"),
    "A4": Row("a route without a token", "there is none but those listed"),
    "A5": Row("listening for the network", "refused, unless everybody there has to sign in"),
    "A6": Row("a distributed engine's port", "", "there is none: attempts run on this machine only"),
    "A7": Row("hostile names, questions, logs and diffs (XSS)", "shown as text; nothing runs"),
    "A8": Row("paths in names", "refused; nothing appears outside of the state directory"),
    "A9": Row("shell in names and texts", "no shell sees them"),
    "A10": Row("options in names given to git", "refused, or taken as names"),
    "A11": Row("configuration and hooks planted in the repository", "the server's git runs none of them"),
    "A12": Row("symbolic links out of the run directory", "not followed"),
    "A13": Row("output bombs: endless lines, control codes, invalid text", "bounded and made harmless"),
    "A14": Row("secrets in logs, arguments, URLs", "the token is in none of them"),
    "A15": Row("SQL that writes, reads files, or never ends", "can't; it is ended at its limit"),
    "A16": Row("chosen or stolen session ids", "refused"),
    "A17": Row("exhaustion by sessions and requests", "bounded, and given back"),
    "A18": Row("processes that escape", "reached: every descendant ends"),
    "A19": Row("another user of the machine", "directories and files are private; others' are refused"),
    "A20": Row("a frame around the page (clickjacking)", "refused by the browser"),
    "A21": Row("a hostile database file", "none of a worktree is ever opened"),
}


def proofs() -> dict[str, list[str]]:
    """The tests of each row, as sentences, in the order of files and lines."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(), file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                name, rows = node.name, []
                while match := NAME.fullmatch(name):
                    rows.append(match[1].upper())
                    name = "test_" + match[2]
                sentence = name.removeprefix("test_").replace("_", " ")
                for row in rows:
                    found.setdefault(row, []).append(f"{sentence} ([{file.stem}](../{file.relative_to(ROOT)}))")
    return found


def page() -> str:
    """`docs/faults.md`, whole."""
    lines = [
        "# Faults and attacks, and the tests that prove what holds",
        "",
        "Written by `make docs` from the names of the tests; a test compares the two. [Reliability](reliability.md)",
        "tells how it works, [security](security.md) what is promised and what isn't.",
    ]
    found = proofs()
    for title, rows in (("Faults", FAULTS), ("Attacks", ATTACKS)):
        lines += ["", f"## {title}"]
        for number, row in rows.items():
            lines += [
                "",
                f"**{number}. {row.what[0].upper()}{row.what[1:]}**" + (f": {row.holds}." if row.holds else "."),
            ]
            lines += ["", *(f"- {sentence}" for sentence in found.get(number, ()))] if number in found else []
            lines += ["", f"Not tested: {row.untested}."] if row.untested else []
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")
