"""What `orch init` does: look at a repository and write an `orchestrator.toml` that explains itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator_app.errors import SettingsError, UsageError, WorkspaceError
from orchestrator_app.known_agents import PLACEHOLDER, KnownAgent, find_agents
from orchestrator_app.settings import FILE_NAME, load_project
from orchestrator_app.settings_table import BUILT_IN_PHASES, DEFAULT_PHASES, SETTINGS, as_toml
from orchestrator_app.workspace.git import printable, run_git

_TITLES = {
    "project": None,
    "server": None,
    "access": "Who may change something; the server tells people apart behind `--basic-auth` or a login provider only.",
    "retry": "Automatic retries of a failed attempt.",
    "health": "How long a running attempt may be silent before the screens call it stale, or stuck.",
    "workflow": None,
    "workflows.NAME": "Further workflows, for units submitted with `--workflow NAME`.",
    "phases.NAME": "What a phase runs. Each phase may have such a table; without one it has the defaults.",
    "agents.NAME": "The programs that run attempts. The first one runs every phase that names no agent.",
}


@dataclass(frozen=True)
class InitReport:
    """What was written and found. `verify` is None where no test command was recognised."""

    path: Path
    base: str | None
    verify: str | None
    agents: list[str]
    placeholder: bool

    def lines(self) -> list[str]:
        """What to print."""
        lines = [f"Wrote {printable(str(self.path))}"]
        if self.base:
            lines.append(f"  base branch  {self.base}")
        lines.append(f"  verify       {self.verify or 'nothing yet: set it to the command that runs your tests'}")
        if self.placeholder:
            lines.append(
                "  agents       none found on the PATH; wrote a placeholder that does no work, replace its command"
            )
        else:
            lines.append(
                f"  agents       {', '.join(self.agents)} (the first one runs every phase; change it as you like)"
            )
        return [
            *lines,
            "Next:",
            f"  1. read {FILE_NAME}; it says what each setting means",
            "  2. orch serve                                the dashboard; leave it running",
            '  3. orch submit my-change "what to do"        in another terminal',
        ]


def init_project(root: Path, *, isolation: str = "worktree", path: str | None = None) -> InitReport:
    """Write `orchestrator.toml` at the top of the repository that holds `root` (with isolation "none": in `root`).

    `path` is where agent programs are looked for, by default the PATH. Raises SettingsError when there is a file
    already or it can't be written, WorkspaceError when the repository can't be used; nothing is written then.
    """
    if isolation not in ("worktree", "none"):
        raise UsageError(f'isolation must be worktree or none, not "{isolation}"')
    root = Path(root).absolute()
    if not root.is_dir():
        raise UsageError(f"{printable(str(root))} is not a directory")
    base = None
    if isolation == "worktree":
        root = _top_level(root)
        base = _base_branch(root)
    file = root / FILE_NAME
    if file.exists() or file.is_symlink():
        raise SettingsError(f"{printable(str(file))} is there already; edit it, or remove it first")
    found = find_agents(path)
    verify = find_verify(root)
    text = settings_text(base, isolation, verify, found or [PLACEHOLDER])
    try:
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise SettingsError(f"{printable(str(file))} can't be written: {error.strerror}") from None
    load_project(root)
    return InitReport(file, base, verify, [agent.name for agent in found], not found)


def _top_level(root: Path) -> Path:
    done = run_git(["rev-parse", "--show-toplevel"], root, ok=(0, 128))
    if done.code == 0:
        return Path(done.out.removesuffix("\n"))
    if "dubious ownership" in done.err:
        raise WorkspaceError(f"{printable(str(root))} belongs to another user; git wants it named in safe.directory")
    raise WorkspaceError(
        f"{printable(str(root))} is not in a git repository; run `git init` and commit something first,"
        " or `orch init --isolation none` to run units without git"
    )


def _base_branch(root: Path) -> str:
    """The branch that is checked out; on a detached HEAD main, master or the first one."""
    done = run_git(["for-each-ref", "--format=%(refname)", "refs/heads"], root)
    branches = [line.removeprefix("refs/heads/") for line in done.out.splitlines()]
    current = run_git(["symbolic-ref", "-q", "HEAD"], root, ok=(0, 1)).out.strip().removeprefix("refs/heads/")
    wanted = [current] if current else ["main", "master", *branches]
    for branch in wanted:
        if branch in branches:
            return branch
    if current:
        raise WorkspaceError(
            f'the repository {printable(str(root))} has no commit on "{printable(current)}" yet;'
            " run `git add -A` and `git commit` first, then `orch init` again"
        )
    raise WorkspaceError(f"the repository {printable(str(root))} has no branch; run `git switch -c main` first")


def find_verify(root: Path) -> str | None:
    """A command that runs the tests of the project in `root`, by the files that are there; None if none is known."""
    if _runs_pytest(root):
        own = root / ".venv" / "bin" / "python"
        return f'"{own}" -m pytest -q' if own.exists() and '"' not in str(own) else "python3 -m pytest -q"
    try:
        scripts = json.loads(_read(root / "package.json") or "{}").get("scripts", {})
    except (ValueError, AttributeError, RecursionError):
        scripts = {}
    if isinstance(scripts, dict) and "no test specified" not in str(scripts.get("test", "no test specified")):
        # A fresh worktree has no node_modules, so the packages come first.
        if (root / "pnpm-lock.yaml").exists():
            return "pnpm install --frozen-lockfile && pnpm test"
        if (root / "yarn.lock").exists():
            return "yarn install && yarn test"
        return "npm ci && npm test" if (root / "package-lock.json").exists() else "npm install && npm test"
    if (root / "Cargo.toml").exists():
        return "cargo test"
    if (root / "go.mod").exists():
        return "go test ./..."
    if any(re.search(r"(?m)^test\s*:", _read(root / name)) for name in ("Makefile", "makefile", "GNUmakefile")):
        return "make test"
    return None


def _runs_pytest(root: Path) -> bool:
    if (root / "pytest.ini").exists() or (root / "conftest.py").exists():
        return True
    if any("pytest" in _read(root / name) for name in ("pyproject.toml", "setup.cfg", "tox.ini")):
        return True
    return any(next((root / name).glob("**/test_*.py"), None) for name in ("tests", "test"))


def _read(file: Path) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read(1_000_000)
    except OSError:
        return ""


def settings_text(base: str | None, isolation: str, verify: str | None, agents: list[KnownAgent]) -> str:
    """The commented `orchestrator.toml`, whole. Settings that keep their default stand as `#key = value`."""
    set_here = {"project.base": base, "project.verify": verify}
    if isolation == "none":
        set_here |= {"workflow.isolation": "none"}
    else:
        set_here |= {"workflow.phases": DEFAULT_PHASES}
    lines = [
        "# What orchestrator_app does in this repository.",
        "# A line `#key = value` shows a default: remove the # to change it.",
    ]
    section = None
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            lines += ["", *_heading(section)]
            if section == "agents.NAME":
                break
        # Phases show what REVIEW has, workflows a short one; every other section what the table says.
        example = {
            "workflows.NAME.phases": ("IMPLEMENT", "MERGE")[: 1 if isolation == "none" else 2],
            "access.operators": ["ada"],
        }
        default = example.get(setting.name, setting.default)
        if section == "phases.NAME":
            default = {"agent": agents[0].name, "back_to": "IMPLEMENT", **BUILT_IN_PHASES["REVIEW"]}.get(
                setting.key, default
            )
        if setting.name == "project.verify":
            default = "make test"
        elif setting.name == "workflow.phases" and isolation == "none":
            default = DEFAULT_PHASES[:-1]
        given = set_here.get(setting.name)
        lines.append(f"# {setting.meaning}" + (f" ({setting.type})" if "|" in setting.type else ""))
        lines.append(f"{setting.key} = {as_toml(given)}" if given else f"#{setting.key} = {as_toml(default)}")
    for agent in agents:
        lines += ["", f"# {agent.meaning}", f"[agents.{agent.name}]", f"command = '{agent.command}'"]
    lines += ["#env = {}"]
    return "\n".join([*lines, ""])


def _heading(section: str) -> list[str]:
    title = [f"# {_TITLES[section]}"] if _TITLES[section] else []
    names = {"workflows.NAME": "#[workflows.quick]", "phases.NAME": "[phases.REVIEW]", "agents.NAME": None}
    header = names.get(section, f"[{section}]")
    return [*title, header] if header else title
