"""The form that adds a work unit."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial

import panel as pn
import panel_material_ui as pmui

from orchestrator_app.errors import OrchError
from orchestrator_app.orchestrator import Orchestrator

#: A disabled field's text is faint; what is wrong must be read.
READABLE = {
    "& .MuiInputBase-input.Mui-disabled": {"color": "error.main", "WebkitTextFillColor": "currentColor !important"}
}


class SubmitForm:
    """A dialog with the fields of a unit. What is wrong with them shows in it, as text; what was typed stays."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        project = orchestrator.project
        self._orchestrator = orchestrator
        self._document = pn.state.curdoc
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
            on_click=lambda _: self.dialog.param.update(open=True),
        )

    def _submit(self, _: object) -> None:
        unit = {
            "name": self.name.value.strip(),
            "prompt": self.prompt.value,
            "workflow": self.workflow.value,
            "agent": self.agent.value or None,
            "after": _listed(self.after.value),
            "touches": _listed(self.touches.value),
            "labels": _listed(self.labels.value),
            "priority": self.priority.value or 0,
        }
        self.send.disabled = True
        try:
            future = self._orchestrator.request("submit", units=[unit])
        except OrchError as error:
            self._show(str(error))
            return
        future.add_done_callback(lambda done: self._document.add_next_tick_callback(partial(self._finish, done)))

    def _finish(self, done: Future) -> None:
        error = done.exception()
        if error is not None:
            self._show(str(error) if isinstance(error, OrchError) else "it failed unexpectedly; see the server's log")
            return
        self._show("")
        for field in (self.name, self.prompt, self.after, self.touches, self.labels):
            field.value = ""
        self.dialog.open = False

    def _show(self, error: str) -> None:
        self.send.disabled = False
        self.error.param.update(value=error, visible=bool(error))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
