"""`orch init`: what it finds in a repository, what it writes, and what it refuses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from orchestrator_app.errors import OrchError, SettingsError, UsageError, WorkspaceError
from orchestrator_app.init_project import find_verify, init_project
from orchestrator_app.known_agents import KNOWN_AGENTS, PLACEHOLDER
from orchestrator_app.settings import load_project


def git(root: Path, *args: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *args], cwd=root, check=True, capture_output=True
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "trunk")
    git(root, "commit", "-q", "--allow-empty", "-m", "start")
    return root


@pytest.fixture
def programs(tmp_path: Path):
    """Makes programs of these names and gives the PATH that finds them, and nothing else."""

    def make(*names: str) -> str:
        directory = tmp_path / "bin"
        directory.mkdir(exist_ok=True)
        for name in names:
            (directory / name).write_text("#!/bin/sh\n")
            (directory / name).chmod(0o755)
        return str(directory)

    return make


def test_init_writes_settings_that_load_and_says_what_it_found(repository: Path, programs) -> None:
    (repository / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")

    report = init_project(repository, path=programs("codex", "claude"))

    project = load_project(repository)
    assert (project.base, project.verify) == ("trunk", ("/bin/sh", "-c", "python3 -m pytest -q"))
    assert list(project.agents) == report.agents == ["claude", "codex"]
    assert project.workflows["default"].first.agent == "claude"
    printed = "\n".join(report.lines())
    for word in ("orchestrator.toml", "trunk", "pytest", "claude, codex", "orch serve", "orch submit"):
        assert word in printed


def test_every_commented_setting_is_one_that_loads(repository: Path, programs) -> None:
    init_project(repository, path=programs(*(agent.program for agent in KNOWN_AGENTS)))
    file = repository / "orchestrator.toml"

    file.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", file.read_text()))

    project = load_project(repository)
    assert [phase.name for phase in project.workflows["quick"].phases] == ["IMPLEMENT", "MERGE"]
    assert set(project.sources.values()) > {"default"}
    assert list(project.agents) == [agent.name for agent in KNOWN_AGENTS]


def test_without_an_agent_program_a_placeholder_is_written_that_runs_and_says_so(
    repository: Path, programs, tmp_path: Path
) -> None:
    report = init_project(repository, path=programs())

    assert report.placeholder and "placeholder" in "\n".join(report.lines())
    command = load_project(repository).agents[PLACEHOLDER.name].command
    (tmp_path / "prompt").write_text("do it")
    environment = {"ORCH_PROMPT_FILE": str(tmp_path / "prompt"), "ORCH_EVENTS": str(tmp_path / "events")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "do it")
    assert (tmp_path / "events").read_text() == '{"type":"review","decision":"approve"}\n'


def test_every_known_agent_gets_its_prompt(programs, tmp_path: Path) -> None:
    shell = programs()
    prompt = tmp_path / "prompt"
    prompt.write_text('fix "it"; $(touch hacked)')
    for agent in KNOWN_AGENTS:
        program = Path(shell) / agent.program
        program.write_text('#!/bin/sh\necho "$@"\nPATH=/usr/bin:/bin\nfor file; do :; done\ncat; cat "$file"\n')
        program.chmod(0o755)
        environment = {
            "PATH": f"{shell}:/usr/bin:/bin",
            "ORCH_PROMPT_FILE": str(prompt),
            "ORCH_RUN_DIR": str(tmp_path),
        }

        done = subprocess.run(
            ["/bin/sh", "-c", agent.command],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

        assert prompt.read_text() in done.stdout, agent.name
        assert not (tmp_path / "hacked").exists()


def test_init_in_a_directory_below_writes_at_the_top(repository: Path, programs) -> None:
    (repository / "src").mkdir()

    assert init_project(repository / "src", path=programs()).path == repository.resolve() / "orchestrator.toml"


def test_on_a_detached_head_the_base_is_a_branch_that_exists(repository: Path, programs) -> None:
    git(repository, "checkout", "-q", "--detach")

    assert init_project(repository, path=programs()).base == "trunk"


def test_init_never_overwrites_a_file(repository: Path, programs) -> None:
    (repository / "orchestrator.toml").write_text("mine")

    with pytest.raises(SettingsError, match="is there already"):
        init_project(repository, path=programs())

    assert (repository / "orchestrator.toml").read_text() == "mine"


def test_without_git_init_says_the_ways_out_and_isolation_none_is_one(tmp_path: Path, programs) -> None:
    with pytest.raises(WorkspaceError, match=r"`git init`.*--isolation none"):
        init_project(tmp_path, path=programs())
    assert not (tmp_path / "orchestrator.toml").exists()

    report = init_project(tmp_path, isolation="none", path=programs())

    project = load_project(tmp_path)
    assert (report.base, project.isolation) == (None, "none")
    assert project.workflows["default"].phases[-1].name == "COMPLETE"
    file = tmp_path / "orchestrator.toml"
    file.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", file.read_text()))
    load_project(tmp_path)


def test_a_repository_without_a_commit_is_refused_with_the_way_out(tmp_path: Path, programs) -> None:
    git(tmp_path, "init", "-q", "-b", "main")

    with pytest.raises(WorkspaceError, match=r'no commit on "main" yet; run `git add -A` and `git commit`'):
        init_project(tmp_path, path=programs())
    assert not (tmp_path / "orchestrator.toml").exists()


def test_a_place_that_can_not_be_used_is_one_clear_line(repository: Path, programs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong, options in ((tmp_path / "file", {}), (tmp_path / "none", {}), (repository, {"isolation": "some"})):
        with pytest.raises(UsageError) as caught:
            init_project(wrong, path=programs(), **options)
        assert "\n" not in str(caught.value)


def test_a_file_that_can_not_be_written_is_one_clear_line(repository: Path, programs) -> None:
    link = repository / "orchestrator.toml"
    link.symlink_to(repository / "none" / "file")

    with pytest.raises(OrchError) as caught:
        init_project(repository, path=programs())
    assert "orchestrator.toml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({}, None),
        ({"tests/unit/test_a.py": ""}, "python3 -m pytest -q"),
        ({"setup.cfg": "[tool:pytest]"}, "python3 -m pytest -q"),
        ({"package.json": '{"scripts": {"test": "jest"}}', "package-lock.json": ""}, "npm ci && npm test"),
        (
            {"package.json": '{"scripts": {"test": "jest"}}', "pnpm-lock.yaml": ""},
            "pnpm install --frozen-lockfile && pnpm test",
        ),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, None),
        ({"package.json": "[", "Cargo.toml": ""}, "cargo test"),
        ({"go.mod": "", "Makefile": "test:\n"}, "go test ./..."),
        ({"Makefile": "all:\n\ntest: all\n\ttrue\n"}, "make test"),
        ({"Makefile": "all:\n"}, None),
    ],
)
def test_the_verify_command_follows_from_the_files(tmp_path: Path, files: dict[str, str], command: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert find_verify(tmp_path) == command


def test_the_projects_own_environment_runs_its_tests(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text("")

    assert find_verify(tmp_path) == f'"{tmp_path}/.venv/bin/python" -m pytest -q'
