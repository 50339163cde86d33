"""All that the API can be asked for, as methods. Each names its operations; a test holds them against the API."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from orchestrator_app.client.http import Client, Source, unit_path
from orchestrator_app.errors import UsageError

Row = dict[str, Any]
Method = TypeVar("Method", bound=Callable[..., Any])


def asks(*operations: str) -> Callable[[Method], Method]:
    """Mark a method with the operations of the API that it stands for, as in "GET /status"."""

    def mark(method: Method) -> Method:
        method.operations = operations  # type: ignore[attr-defined]
        return method

    return mark


class Verbs:
    """The API's verbs. Those that read work on a stopped project too; those that act need a server.

    What is refused raises an OrchError with the server's one line: UsageError for wrong words, NotFoundError, Conflict
    when the unit has changed since the `version` that was given (`current` is the unit as it is now), NoServerError
    when nobody answers. A change is made once, though a server may be restarted while it is asked for.
    """

    def _source(self) -> Source:
        """What answers reading requests."""
        raise NotImplementedError

    def _server(self) -> Client:
        """The running server. Raises NoServerError, which says what to run."""
        raise NotImplementedError

    def _say(self, unit: str, kind: str, version: int | None = None, **body: Any) -> Row:
        given = {name: value for name, value in body.items() if value is not None}
        return self._server().change(unit_path(unit, kind), given, version=version)

    # -- units

    @asks("POST /units")
    def submit(
        self,
        unit: str | Mapping[str, Any] | Iterable[Mapping[str, Any]],
        prompt: str | None = None,
        *,
        workflow: str | None = None,
        agent: str | None = None,
        priority: int | None = None,
        after: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        touches: Sequence[str] | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        key: str | None = None,
    ) -> Row:
        """Add a unit, or many at once: all of them or none.

        `submit("fix-login", "Empty passwords must fail", after=["schema"])`, or
        `submit([{"name": "a", "prompt": "…"}, {"name": "b", "after": ["a"]}])`. `after`: units that must be DONE
        before; `touches`: globs of the files it will change; `timeout`: seconds that an attempt may take; `retries`:
        automatic attempts after a failed one. With the same `key` it is done once, however often this is run.
        Gives `units`, their names, and `seq`, the record up to which it is in the log.
        """
        fields = {
            **{"prompt": prompt, "workflow": workflow, "agent": agent, "priority": priority, "after": _list(after)},
            **{"labels": _list(labels), "touches": _list(touches), "timeout": timeout, "retries": retries},
        }
        given = {name: value for name, value in fields.items() if value is not None}
        if isinstance(unit, str):
            body: Row = {"name": unit, **given}
        elif given:
            raise UsageError(f"{', '.join(given)} can only be given with one unit's name: put it into each unit")
        else:
            body = {"units": [dict(each) for each in ([unit] if isinstance(unit, Mapping) else unit)]}
        return self._server().change("/units", body, key=key)

    @asks("PATCH /units/{name}")
    def edit(
        self,
        unit: str,
        *,
        prompt: str | None = None,
        agent: str | None = None,
        priority: int | None = None,
        after: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        touches: Sequence[str] | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        version: int | None = None,
    ) -> Row:
        """Change fields of a unit; a list is replaced as a whole. `version`: only if it still has that version."""
        fields = {
            **{"prompt": prompt, "agent": agent, "priority": priority, "after": _list(after)},
            **{"labels": _list(labels), "touches": _list(touches), "timeout": timeout, "retries": retries},
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return self._server().patch(unit_path(unit), given, version)

    @asks("GET /units/{name}")
    def unit(self, unit: str) -> Row:
        """One unit as it stands, with its `version`. `board.unit(name)` can be watched."""
        return self._source().get(unit_path(unit))

    @asks("GET /units")
    def find(self, status: str | None = None, label: str | None = None) -> list[Row]:
        """The units in a status, with a label, or all of them, by name."""
        return list(self._source().pages("/units", "units", status=status, label=label))

    # -- what a person says about a unit

    @asks("POST /units/{name}/answer")
    def answer(self, unit: str, text: str, *, item: int | None = None, version: int | None = None) -> Row:
        """Answer the unit's question. `item`: the attention item that is meant; refused if it is settled already."""
        return self._say(unit, "answer", version, text=text, item=item)

    @asks("POST /units/{name}/approve")
    def approve(self, unit: str, *, item: int | None = None, version: int | None = None) -> Row:
        """Approve what the unit asks approval for."""
        return self._say(unit, "approve", version, item=item)

    @asks("POST /units/{name}/reject")
    def reject(
        self, unit: str, feedback: str | None = None, *, item: int | None = None, version: int | None = None
    ) -> Row:
        """Reject it; the phase runs again and gets the feedback."""
        return self._say(unit, "reject", version, feedback=feedback, item=item)

    @asks("POST /units/{name}/resolve")
    def resolve(
        self,
        unit: str,
        other: str,
        ruling: Literal["serialize", "parallelize"],
        *,
        item: int | None = None,
        version: int | None = None,
    ) -> Row:
        """Rule on a conflict of two units: `serialize` (this unit after the other) or `parallelize`. It holds."""
        return self._say(unit, "resolve", version, other=other, ruling=ruling, item=item)

    @asks("POST /units/{name}/retry")
    def retry(
        self,
        unit: str,
        *,
        phase: str | None = None,
        feedback: str | None = None,
        item: int | None = None,
        version: int | None = None,
    ) -> Row:
        """Make another attempt, from this phase if one is named; it gets the feedback."""
        return self._say(unit, "retry", version, phase=phase, feedback=feedback, item=item)

    @asks("POST /units/{name}/accept")
    def accept(self, unit: str, reason: str, *, item: int | None = None, version: int | None = None) -> Row:
        """Close a unit that needs attention as DONE; `reason` stands in its story."""
        return self._say(unit, "accept", version, reason=reason, item=item)

    @asks("POST /units/{name}/cancel")
    def cancel(
        self, unit: str, reason: str | None = None, *, item: int | None = None, version: int | None = None
    ) -> Row:
        """Withdraw a unit; a running attempt is killed with all its descendants."""
        return self._say(unit, "cancel", version, reason=reason, item=item)

    @asks("POST /units/{name}/pause")
    def pause(self, unit: str, reason: str | None = None, *, version: int | None = None) -> Row:
        """Hold a unit; a running attempt is stopped, its session kept."""
        return self._say(unit, "pause", version, reason=reason)

    @asks("POST /units/{name}/resume")
    def resume(self, unit: str, reason: str | None = None, *, version: int | None = None) -> Row:
        """Let a paused unit go on."""
        return self._say(unit, "resume", version, reason=reason)

    @asks("POST /units/{name}/restart")
    def restart(self, unit: str, reason: str | None = None, *, version: int | None = None) -> Row:
        """Stop the running attempt; its phase starts again, with its session."""
        return self._say(unit, "restart", version, reason=reason)

    @asks("POST /units/{name}/reopen")
    def reopen(self, unit: str, reason: str | None = None, *, version: int | None = None) -> Row:
        """Take a cancelled unit back."""
        return self._say(unit, "reopen", version, reason=reason)

    @asks("POST /units/{name}/comment")
    def comment(
        self, unit: str, text: str, *, file: str | None = None, line: int | None = None, version: int | None = None
    ) -> Row:
        """Say something to the unit's next attempt, on a line of a file or on the whole."""
        return self._say(unit, "comment", version, text=text, file=file, line=line)

    @asks("POST /attention/{id}/seen")
    def seen(self, item: int) -> Row:
        """Say that a person has seen an attention item."""
        return self._server().change(f"/attention/{int(item)}/seen")

    @asks("POST /dispatch")
    def dispatch(self, *, paused: bool) -> Row:
        """Pause the starting of attempts (what runs goes on), or go on with it."""
        return self._server().change("/dispatch", {"paused": paused})

    # -- reading

    @asks("GET /status")
    def status(self) -> Row:
        """The whole in short: state, counts, slots, attention, dispatch, `seq`."""
        return self._source().get("/status")

    @asks("GET /attention")
    def waiting(self, unit: str | None = None, kind: str | None = None) -> list[Row]:
        """What needs a person now, oldest first. `attention()` has what is settled, too."""
        return list(self._source().pages("/attention", "items", unit=unit, kind=kind))

    @asks("GET /conflicts")
    def conflicts(self, unit: str | None = None, kind: Literal["overlap", "merge"] | None = None) -> list[Row]:
        """Open conflicts, oldest first: the units, the files, since when, and what can be done."""
        return list(self._source().pages("/conflicts", "conflicts", unit=unit, kind=kind))

    @asks("GET /budget")
    def budget(self, unit: str | None = None) -> Row:
        """What agents said they used: in `total`, `today`, by `phases`, `models` and `units`."""
        return self._source().whole("/budget", "units", unit=unit)

    @asks("GET /errors/summary")
    def errors(self, since: str | None = None, search: str | None = None) -> list[Row]:
        """What went wrong lately, equal errors as one. `since`: a time, or so many seconds; a day if not given."""
        return list(self._source().pages("/errors/summary", "found", since=since, search=search))

    @asks("GET /units/{name}/diff")
    def diff(self, unit: str) -> str:
        """What the unit's branch changes against its base; it is cut at 1 MB, with a warning."""
        answer = self._source().get(unit_path(unit, "diff"))
        if answer["truncated"]:
            warnings.warn(f"the diff of {unit} is cut: see the whole with git diff {answer['base']}...", stacklevel=2)
        return answer["diff"]

    @asks("GET /units/{name}/log")
    def log(
        self,
        unit: str,
        attempt: int | None = None,
        *,
        tail: int | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> str:
        """The output of an attempt, the newest if none is named: its last `tail` lines (1 MB at most), or all of it
        from the byte `offset` on, `limit` bytes at most."""
        path = unit_path(unit, "log")
        if tail is not None:
            return self._source().get(path, attempt=attempt, tail=tail, limit=1 << 20)["text"]
        texts, place, end = [], offset, None
        while end is None or place < end:
            most = 1 << 20 if end is None else min(1 << 20, end - place)
            piece = self._source().get(path, attempt=attempt, offset=place, limit=min(most, limit or most))
            attempt = piece["attempt"]
            end = piece["size"] if end is None else end  # what is written meanwhile is for the next time
            end = end if limit is None else min(end, offset + limit)
            texts.append(piece["text"])
            if piece["next"] <= place:
                break
            place = piece["next"]
        return "".join(texts)

    @asks("GET /feed")
    def changes(
        self,
        since: int,
        *,
        wait: float = 0.0,
        tables: Sequence[str] | None = None,
        unit: str | None = None,
        limit: int | None = None,
    ) -> Row:
        """The next records behind `since`, or none after `wait` seconds: `records`, `seq`, `more`."""
        words = ",".join(tables) if tables else None
        query = {"since": since, "wait": wait, "tables": words, "unit": unit, "limit": limit}
        return self._source().get("/feed", patience=wait + 60, **query)

    @asks("GET /config")
    def config(self) -> Row:
        """The settings in force, and where each comes from."""
        return self._source().get("/config")

    @asks("GET /check")
    def check(self) -> Row:
        """Prove the log: `faults` is what breaks its invariants, one line each."""
        return self._source().get("/check")

    @asks("GET /openapi.json")
    def description(self) -> Row:
        """The OpenAPI document of the API."""
        return self._source().get("/openapi.json")

    # -- the server itself

    @asks("POST /login-code")
    def login_url(self, *, viewer: bool | None = None) -> str:
        """A URL that signs one browser in, once; `viewer`: to look and change nothing."""
        return self._server().post("/login-code", {} if viewer is None else {"viewer": viewer})["url"]

    @asks("POST /stop")
    def stop(self, how: Literal["leave", "drain", "agents"] = "leave") -> Row:
        """Stop the server: `leave` running attempts to the next one, `drain` them, or end the `agents`."""
        return self._server().post("/stop", {"how": how})

    @asks("POST /backup")
    def backup(self, folder: str) -> int:
        """Copy the log's files into an empty directory of the server's machine; the record up to which they are."""
        return self._server().post("/backup", {"folder": folder}, patience=600)["seq"]

    @asks("POST /export")
    def export(self) -> Row:
        """Bring the Parquet files under .orchestrator/export up to date."""
        return self._server().post("/export")

    @asks("GET /metrics")
    def metrics(self) -> str:
        """What Prometheus is told, as text."""
        return self._server().call("GET", "/metrics", prefix="").data.decode()

    @asks("GET /healthz")
    def health(self) -> Row:
        """Whether all is well; raises Refused while it isn't."""
        return json.loads(self._server().call("GET", "/healthz", prefix="").data)


def _list(words: Sequence[str] | None) -> list[str] | None:
    if isinstance(words, str):
        raise UsageError(f"{words!r} is one word where a list is meant: [{words!r}]")
    return None if words is None else list(words)
