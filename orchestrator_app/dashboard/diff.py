"""What a unit's branch changes: the list of its files first, then a file at a time, as the page asks for it.

Everything comes from the commits (as `orch diff` does), between two that stay the same while one reads: newer ones are
announced, not slipped under the reader. Colours are pairs of a class and a text, never HTML.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pygments.lexer import Lexer
from pygments.lexers import find_lexer_class_for_filename
from pygments.token import Token
from pygments.util import ClassNotFound

from orchestrator_app.errors import OrchError
from orchestrator_app.workspace.git import read_ref, run_git
from orchestrator_app.workspace.places import Place, printable
from orchestrator_app.workspace.worktrees import open_place, unit_ref

#: Files that are listed, and bytes of the list.
FILES, LIST_BYTES = 2_000, 4_000_000
#: Bytes and lines of one file's changes that are shown; characters of a line.
FILE_BYTES, FILE_LINES, LINE = 2_000_000, 10_000, 2_000
#: Lines that one message carries.
SHARE = 600
#: What is coloured: so many characters on a side, lines so long, for so many seconds; the rest stays plain.
COLOURED, COLOURED_LINE, COLOURING = 200_000, 1_000, 0.6
#: Seconds between two looks for newer commits.
PAUSE = 2.0

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)")
_STATUS = {"A": "added", "D": "deleted", "R": "renamed", "C": "copied", "T": "type changed"}

Tokens = list[list[str]]


@dataclass(frozen=True)
class File:
    """A file that differs. Paths as git has them; `added` None: it is binary."""

    path: str
    old: str | None
    status: str
    added: int | None
    deleted: int | None
    modes: tuple[str, str]

    def view(self) -> dict[str, Any]:
        before, after = self.modes
        swapped = before != after and "000000" not in self.modes
        return {
            "path": shown(self.path),
            "old": None if self.old is None else shown(self.old),
            "status": self.status,
            "added": self.added,
            "deleted": self.deleted,
            "mode": f"{before} → {after}" if swapped else None,
        }


@dataclass(frozen=True)
class Changes:
    """Two commits and the files that differ between them. `more` files are not listed."""

    old: str
    new: str
    files: tuple[File, ...]
    more: bool


def shown(path: str) -> str:
    """A path to be shown and spoken of: one line, whatever bytes it has."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in printable(path))


def changed_files(place: Place, old: str, new: str) -> Changes:
    """The files that differ between two commits. Takes as long as git takes."""
    args = ["diff", "--raw", "--numstat", "-z", "--abbrev=40", "-M", old, new, "--"]
    done = run_git(args, place, limit=LIST_BYTES)
    fields = iter(done.out.split("\0")[:-1])
    known: dict[str, list[Any]] = {}
    counts: dict[str, tuple[int | None, int | None]] = {}
    for field in fields:
        if field.startswith(":"):
            before, after, _, _, status = field[1:].split(" ")
            path, source = next(fields, ""), None
            if status[0] in "RC":
                source, path = path, next(fields, "")
            known[path] = [source, _STATUS.get(status[0], "modified"), (before, after)]
        elif field.count("\t") >= 2:
            added, deleted, path = field.split("\t", 2)
            if not path:  # a renamed one: both names follow
                next(fields, "")
                path = next(fields, "")
            counts[path] = (None, None) if added == "-" else (int(added), int(deleted))
    files = tuple(
        File(path, source, status, *counts.get(path, (0, 0)), modes)
        for path, (source, status, modes) in list(known.items())[:FILES]
    )
    return Changes(old, new, files, done.cut or len(known) > FILES)


def file_changes(place: Place, changes: Changes, file: File) -> tuple[list[dict[str, Any]], bool]:
    """The hunks of one file, coloured, and whether there is more than is shown. Takes as long as git takes."""
    paths = [file.path] if file.old is None else [file.path, file.old]
    done = run_git(["diff", "-M", "-U3", changes.old, changes.new, "--", *paths], place, limit=FILE_BYTES)
    hunks, cut = parsed(printable(done.out))
    _colour(hunks, file.path)
    return hunks, cut or done.cut


def parsed(patch: str) -> tuple[list[dict[str, Any]], bool]:
    """The hunks of a patch, and whether its end is left out.

    A line is its sign, its number in the old and in the new file, and its tokens: here one, without a class.
    """
    hunks: list[dict[str, Any]] = []
    old = new = count = 0
    for line in patch.split("\n"):
        if found := _HUNK.match(line):
            old, new = int(found[1]), int(found[2])
            hunks.append({"head": found[3][:200], "old": old, "new": new, "lines": []})
        elif line.startswith("diff --git "):
            old = new = 0
        elif hunks and (old or new) and line[:1] in ("+", "-", " ", "\\"):
            if count == FILE_LINES:
                return hunks, True
            count += 1
            sign, words = line[0], line[1:].removesuffix("\r")
            if len(words) > LINE:
                words = f"{words[:LINE]}… ({len(words) - LINE:,} more characters)"
            numbers = [None if sign in "+\\" else old, None if sign in "-\\" else new]
            old, new = old + (sign in "- "), new + (sign in "+ ")
            hunks[-1]["lines"].append([sign, *numbers, [["", words]]])
    return hunks, False


def _colour(hunks: list[dict[str, Any]], path: str) -> None:
    """Give the lines their tokens, where the language is known: each side of a hunk is read as one text."""
    try:
        found = find_lexer_class_for_filename(Path(shown(path)).name)
    except ClassNotFound:
        found = None
    if found is None:
        return
    lexer = found(stripnl=False, stripall=False, ensurenl=True)
    deadline = time.monotonic() + COLOURING
    room = COLOURED
    for hunk in hunks:
        for sign in "-+":  # the new side last: unchanged lines have its colours
            lines = [line for line in hunk["lines"] if line[0] in (sign, " ")]
            words = [line[3][0][1] if len(line[3]) == 1 else "".join(text for _, text in line[3]) for line in lines]
            size = sum(map(len, words))
            room -= size
            if room < 0 or time.monotonic() > deadline:
                return
            if max(map(len, words), default=0) > COLOURED_LINE:
                continue
            tokens = _tokens(lexer, "\n".join(words), deadline)
            if len(tokens) >= len(lines):
                for line, coloured in zip(lines, tokens, strict=False):
                    line[3] = coloured


def _tokens(lexer: Lexer, text: str, deadline: float) -> list[Tokens]:
    """The tokens of each line. Fewer lines than there are: it took too long."""
    lines: list[Tokens] = [[]]
    for _, kind, value in lexer.get_tokens_unprocessed(text):
        if time.monotonic() > deadline:
            return []
        name = _class(kind)
        for number, piece in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if not piece:
                continue
            if lines[-1] and lines[-1][-1][0] == name:
                lines[-1][-1][1] += piece
            else:
                lines[-1].append([name, piece])
    return lines


def _class(kind: Any) -> str:
    """The short class of a token, one of a few: keyword, string, number, comment, name of something."""
    for wanted, name in _CLASSES:
        if kind in wanted:
            return name
    return ""


_CLASSES = (
    (Token.Comment, "c"),
    (Token.Keyword, "k"),
    (Token.Literal.String, "s"),
    (Token.Literal.Number, "m"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "f"),
    (Token.Name.Tag, "k"),
    (Token.Name.Attribute, "a"),
    (Token.Name.Builtin, "b"),
    (Token.Name.Decorator, "a"),
    (Token.Generic.Heading, "k"),
    (Token.Operator.Word, "k"),
)


class Page(Protocol):
    """What a `Screen` gives."""

    session: Any
    board: Any

    def tell(self, payload: Any) -> None: ...
    def run(self, coroutine: Any) -> asyncio.Task: ...


class DiffView:
    """The server's half of the changes of one unit in one browser session. Used on the session's thread."""

    def __init__(self, screen: Page, unit: str) -> None:
        self._screen = screen
        self._unit = unit
        self._project = screen.session.orchestrator.project
        self._changes: Changes | None = None
        self._told: str | None = None  # the newest commit that the browser knows of
        self._place: Place | None = None
        self._wanted: asyncio.Queue[Any] = asyncio.Queue(maxsize=FILES + 10)
        self._news = asyncio.Event()
        self._shown = False
        screen.run(self._serve())
        screen.run(self._watch())

    def look(self) -> None:
        """Something has become of the unit: there may be newer commits."""
        self._news.set()

    def hear(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "diff-show":
                wanted: Any = "all"
            case "diff-file" if type(message.get("n")) is int and isinstance(message.get("of"), str):
                wanted = (message["of"], message["n"])
            case _:
                return
        try:
            self._wanted.put_nowait(wanted)
        except asyncio.QueueFull:
            pass  # more than there are files: nobody waits for these

    async def _serve(self) -> None:
        while True:
            wanted = await self._wanted.get()
            try:
                if wanted == "all":
                    await self._tell_list()
                else:
                    await self._tell_file(*wanted)
            except OrchError as error:
                self._tell({"state": "fault", "words": str(error)})

    async def _tell_list(self) -> None:
        self._shown = True
        row = self._screen.board.units.get(self._unit)
        if self._project.isolation == "none":
            return self._tell({"state": "none", "words": "Units of this project work in the project's directory: "
                                                         "there is no branch to compare."})  # fmt: skip
        if row is None or not row.base:
            return self._tell({"state": "none", "words": "No branch yet: it is made when the first attempt starts."})
        ends = await asyncio.to_thread(self._ends, row.base, row.merge)
        if ends is None:
            return self._tell({"state": "none", "words": "The branch is gone: it was merged, or discarded."})
        self._told = ends[1]
        self._changes = changes = await asyncio.to_thread(changed_files, self._place, *ends)
        if not changes.files:
            return self._tell({"state": "none", "of": changes.new, "words": "No changes yet: nothing is committed."})
        files = [file.view() for file in changes.files]
        self._tell({"state": "files", "of": changes.new, "old": changes.old, "files": files, "more": changes.more})

    async def _tell_file(self, of: str, number: int) -> None:
        changes = self._changes
        if changes is None or changes.new != of or not 0 <= number < len(changes.files):
            return
        hunks, cut = await asyncio.to_thread(file_changes, self._place, changes, changes.files[number])
        shares = _shares(hunks)
        for at, share in enumerate(shares):
            last = at == len(shares) - 1
            self._tell({"file": number, "of": of, "first": not at, "last": last, "cut": cut and last, "hunks": share})
            await asyncio.sleep(0)

    def _ends(self, base: str, merge: dict[str, Any] | None) -> tuple[str, str] | None:
        """The commits to compare: where the branch left the base's history, and its tip; or what was merged."""
        if self._place is None:
            self._place = open_place(self._project.root)
        tip = read_ref(self._place, unit_ref(self._unit))
        if tip is None:
            if merge and isinstance(merge.get("old"), str) and isinstance(merge.get("new"), str):
                return merge["old"], merge["new"]
            return None
        done = run_git(["merge-base", base, tip], self._place, ok=(0, 1))
        return done.out.strip() or base, tip

    async def _watch(self) -> None:
        """Announce newer commits while the changes are shown."""
        while True:
            try:
                await asyncio.wait_for(self._news.wait(), 5 * PAUSE)
            except TimeoutError:
                pass  # an agent commits without a word
            self._news.clear()
            row = self._screen.board.units.get(self._unit)
            if self._shown and row is not None and row.base and self._project.isolation != "none":
                try:
                    ends = await asyncio.to_thread(self._ends, row.base, row.merge)
                except OrchError:
                    ends = None
                if ends is not None and ends[1] != self._told:
                    self._told = ends[1]
                    self._tell({"newer": ends[1]})
            await asyncio.sleep(PAUSE)

    def _tell(self, said: dict[str, Any]) -> None:
        self._screen.tell({"diff": said})


def _shares(hunks: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The hunks in shares of at most SHARE lines; a longer one goes on in the next with the same head."""
    shares: list[list[dict[str, Any]]] = [[]]
    room = SHARE
    for hunk in hunks:
        for start in range(0, len(hunk["lines"]), SHARE):
            lines = hunk["lines"][start : start + SHARE]
            if len(lines) > room:
                shares.append([])
                room = SHARE
            shares[-1].append({**hunk, "lines": lines, "on": start > 0})
            room -= len(lines)
    return shares
