"""The form that adds a work unit."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any

import panel_material_ui as pmui

from orchestrator_app.dashboard.console import Console
from orchestrator_app.errors import OrchError

#: A disabled field's text is faint; what is wrong must be read.
READABLE = {
    "& .MuiInputBase-input.Mui-disabled": {"color": "error.main", "WebkitTextFillColor": "currentColor !important"}
}


class SubmitForm:
    """A dialog with the fields of a unit. What is wrong with them shows in it, as text; what was typed stays."""

    def __init__(self, console: Console) -> None:
        project = console.orchestrator.project
        self._console = console
        wide = {"sizing_mode": "stretch_width"}
        self.name = pmui.TextInput(label="Name", placeholder="fix-login", **wide)
        self.prompt = pmui.TextAreaInput(label="What to do", rows=5, **wide)
        self.workflow = pmui.Select(label="Workflow", options=list(project.workflows), value="default", **wide)
        self.agent = pmui.Select(
            label="Agent", options={"as the phases say": "", **{a: a for a in project.agents}}, **wide
        )
        self.after = pmui.TextInput(label="After (names, with commas)", **wide)
        self.touches = pmui.TextInput(label="Touches (globs, with commas)", placeholder="src/auth/**", **wide)
        self.labels = pmui.TextInput(label="Labels (with commas)", **wide)
        self.priority = pmui.IntInput(label="Priority (higher goes first)", value=0, **wide)
        self.timeout = pmui.TextInput(label="Timeout (seconds)", placeholder="as the phases say", **wide)
        self.retries = pmui.TextInput(label="Retries", placeholder="as the phases say", **wide)
        # A disabled text field shows hostile text as text; an alert would take it for HTML.
        self.error = pmui.TextAreaInput(
            label="Not submitted", disabled=True, visible=False, rows=2, sx=READABLE, **wide
        )
        self.send = pmui.Button(label="Submit", variant="contained", on_click=self._submit)
        self.close = pmui.Button(label="Close", variant="text", on_click=lambda _: self.dialog.param.update(open=False))
        self.dialog = pmui.Dialog(
            pmui.Column(
                self.name,
                self.prompt,
                pmui.Row(self.workflow, self.agent, **wide),
                self.after,
                self.touches,
                pmui.Row(self.labels, self.priority, **wide),
                pmui.Row(self.timeout, self.retries, **wide),
                self.error,
                pmui.Row(self.send, self.close),
                **wide,
            ),
            title="Submit a work unit",
            open=False,
            width_option="sm",
            sizing_mode="stretch_width",
        )
        self.button = pmui.Button(
            label="Submit a unit",
            icon="add",
            variant="contained",
            sx={"whiteSpace": "nowrap"},
            on_click=lambda _: self.dialog.param.update(open=True),
        )

    def _submit(self, _: object) -> None:
        try:
            unit = self._unit()
        except ValueError as error:
            self._show(str(error))
            return
        self.send.disabled = True
        try:
            future = self._console.request("submit", units=[unit])
        except OrchError as error:
            self._show(str(error))
            return
        future.add_done_callback(lambda done: self._console.soon(partial(self._finish, done)))

    def _unit(self) -> dict[str, Any]:
        """What was filled in. Raises ValueError with what to do about it."""
        return {
            "name": self.name.value.strip(),
            "prompt": self.prompt.value,
            "workflow": self.workflow.value,
            "agent": self.agent.value or None,
            "after": _listed(self.after.value),
            "touches": _listed(self.touches.value),
            "labels": _listed(self.labels.value),
            "priority": self.priority.value or 0,
            "timeout": _number(self.timeout.value, float, "the timeout must be a number of seconds"),
            "retries": _number(self.retries.value, int, "the retries must be a whole number"),
        }

    def _finish(self, done: Future) -> None:
        error = done.exception()
        if error is not None:
            self._show(str(error) if isinstance(error, OrchError) else "it failed unexpectedly; see the server's log")
            return
        self._show("")
        for field in (self.name, self.prompt, self.after, self.touches, self.labels, self.timeout, self.retries):
            field.value = ""
        self.dialog.open = False

    def _show(self, error: str) -> None:
        self.send.disabled = False
        self.error.param.update(value=error, visible=bool(error))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _number(text: str, kind: type, refusal: str) -> float | int | None:
    """The number in a field; None where it was left empty."""
    try:
        return kind(text) if (text or "").strip() else None
    except ValueError:
        raise ValueError(f"{refusal}, or empty for what the phases say, not {text.strip()!r}") from None
