"""Agent programs that `orch init` looks for on the PATH, and how each is run without a terminal.

The prompt comes from the file $ORCH_PROMPT_FILE: by standard input where the program takes it, for a long prompt
doesn't fit into an argument. `exec` makes the program itself the attempt's process. What each may do without asking is
as narrow as its options allow while it can still edit files; `meaning` says so in the settings file.
"""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple


class KnownAgent(NamedTuple):
    name: str
    program: str
    command: str
    meaning: str


KNOWN_AGENTS: tuple[KnownAgent, ...] = (
    KnownAgent(
        "claude",
        "claude",
        'exec claude -p --permission-mode acceptEdits --allowedTools "Bash(orch emit:*)" < "$ORCH_PROMPT_FILE"',
        'edits files; runs no other program until you allow it, for example "Bash(pytest:*)" among its tools',
    ),
    KnownAgent(
        "codex",
        "codex",
        'exec codex exec --sandbox workspace-write --add-dir "$ORCH_RUN_DIR" - < "$ORCH_PROMPT_FILE"',
        "edits files and runs programs in its own sandbox",
    ),
    KnownAgent(
        "gemini",
        "gemini",
        'exec gemini --approval-mode=yolo < "$ORCH_PROMPT_FILE"',
        "edits files and runs any program without asking; --approval-mode=auto_edit is narrower",
    ),
    KnownAgent(
        "opencode",
        "opencode",
        'exec opencode run < "$ORCH_PROMPT_FILE"',
        "may do what its own permission settings allow",
    ),
    KnownAgent(
        "aider",
        "aider",
        'exec aider --yes-always --no-gitignore --no-check-update --message-file "$ORCH_PROMPT_FILE"',
        "edits files and commits",
    ),
    KnownAgent(
        "cursor-agent",
        "cursor-agent",
        'exec cursor-agent -p --force "$(cat "$ORCH_PROMPT_FILE")"',
        "edits files and runs any program without asking; prompts over 128 kB don't fit",
    ),
    KnownAgent(
        "copilot",
        "copilot",
        'exec copilot --allow-all-tools --add-dir "$ORCH_RUN_DIR" < "$ORCH_PROMPT_FILE"',
        "edits files and runs any program without asking",
    ),
    KnownAgent(
        "amp",
        "amp",
        'exec amp --dangerously-allow-all -x < "$ORCH_PROMPT_FILE"',
        "edits files and runs any program without asking",
    ),
    KnownAgent(
        "goose",
        "goose",
        'exec goose run --no-session -i "$ORCH_PROMPT_FILE"',
        "edits files and runs programs as its own settings allow",
    ),
)

#: Stands in where none of them is there: every phase passes at once, a review approves, and nothing changes.
PLACEHOLDER = KnownAgent(
    "placeholder",
    "sh",
    'cat "$ORCH_PROMPT_FILE"; echo "{\\"type\\":\\"review\\",\\"decision\\":\\"approve\\"}" >> "$ORCH_EVENTS"',
    "does no work: it prints its prompt and passes. Put your own program in its place",
)


def find_agents(path: str | None = None) -> list[KnownAgent]:
    """Those whose program is on the PATH (or in `path`, directories separated as there)."""
    path = os.environ.get("PATH", os.defpath) if path is None else path
    return [agent for agent in KNOWN_AGENTS if shutil.which(agent.program, path=path)]
