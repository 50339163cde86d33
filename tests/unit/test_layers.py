"""Imports go down only, and few modules may import what is heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "orchestrator_app"

#: From the bottom up. A module imports from lower lines only; modules of the first line may import one another.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("errors", "states", "settings", "settings_table", "toml_lines", "fields", "units_file", "claim", "operators"),
        *("disk", "stopping", "access", "doors"),
        "metrics",
    ),
    ("client",),
    ("store",),
    ("repeats",),
    ("model",),
    ("gate",),
    ("executors",),
    ("workspace", "policy", "agents"),
    ("requests", "reports", "silence", "starting"),
    ("scheduler",),
    ("orchestrator",),
    ("testing",),
    ("feed", "failures"),
    ("sign_in",),
    ("panel_auth",),
    ("edge", "open_files", "loop_watch"),
    ("analysis", "known_agents", "leftovers"),
    ("keeping",),
    ("api", "dashboard", "init_project"),
    ("connection",),
    ("serve",),
    ("demo",),
    ("cli",),
    ("main", "app_hooks", "__main__", "__init__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

#: Modules outside store/ that may import duckdb, with the reason.
DUCKDB: dict[str, str] = {}


def modules() -> list[Path]:
    return sorted(file for file in PACKAGE.rglob("*.py") if "templates" not in file.parts and "demo" not in file.parts)


def top_of(file: Path) -> str:
    """`store` for store/log.py, `settings` for settings.py."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every import anywhere in a file, also the late ones."""
    found = []
    package = ("orchestrator_app", *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(), file)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            whole = node.module is None or module == "orchestrator_app"  # `from . import a, b` imports modules
            found += (
                [(node.lineno, f"{module}.{alias.name}") for alias in node.names] if whole else [(node.lineno, module)]
            )
    return found


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file: Path) -> None:
    own = top_of(file)
    assert own in LEVEL, f"{own} has no place in LAYERS"

    for line, module in imports_of(file):
        if module.startswith("orchestrator_app."):
            other = module.split(".")[1]
            other = other if other in LEVEL else "__init__"
            down = LEVEL[other] < LEVEL[own] or other == own or LEVEL[other] == LEVEL[own] == 0
            assert down or own == "__init__", f"{file.name}:{line} imports {other}, which is not below {own}"


def test_the_architecture_page_lists_the_layers_in_their_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in page.splitlines() if line.startswith("| `")]

    assert [sorted(row) for row in rows] == [sorted(row) for row in reversed(LAYERS)]


def test_only_the_store_imports_duckdb() -> None:
    importers = {
        str(file.relative_to(PACKAGE))
        for file in modules()
        if any(module.split(".")[0] == "duckdb" for _, module in imports_of(file))
    }

    assert {name for name in importers if not name.startswith("store/")} == set(DUCKDB)


def test_the_supervisor_needs_the_standard_library_only() -> None:
    todo, seen = [PACKAGE / "executors" / "supervisor.py"], set()

    while todo:
        file = todo.pop()
        seen.add(file)
        for line, module in imports_of(file):
            if module.split(".")[0] in sys.stdlib_module_names:
                continue
            beside = file.with_name(module.rpartition(".")[2] + ".py")
            # Run by its path, it knows its package as `executors`.
            known = module.removeprefix("orchestrator_app.") == f"executors.{beside.stem}"
            assert known and beside.exists(), f"{file.name}:{line} imports {module}"
            todo += [beside] if beside not in seen else []


def test_every_package_that_is_imported_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w-]+", each)[0].replace("-", "_") for each in declared}
    names = names - {"pyyaml"} | {
        "yaml",
        "orchestrator_app",
        "executors",
    }  # executors: the supervisor's own name for it

    for file in modules():
        for line, module in imports_of(file):
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or top in names, f"{file.name}:{line} imports {top}"


def test_the_command_line_starts_without_what_only_a_server_needs() -> None:
    program = "import sys, orchestrator_app.cli, orchestrator_app.client; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert not loaded & {"panel", "bokeh", "tornado", "duckdb", "pandas", "pyarrow", "param", "numpy", "yaml"}


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine_or_a_package_registry() -> None:
    machine = re.compile(rb"(?<![\w.}-])/(?:work|root|home/[a-z]+)/")
    registries = [".".join(parts).encode() for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
    registries += [b"registry." + b"npmjs"]

    for file in tracked():
        content = file.read_bytes()
        if b"\0" in content[:8000]:
            continue  # an image
        found = machine.search(content)
        assert not found, f"{file} has {found and found[0]}"
        assert not any(registry in content for registry in registries), f"{file} names a package registry"


def test_every_file_of_the_package_is_installed() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {file for pattern in patterns["orchestrator_app"] for file in PACKAGE.glob(pattern)}

    for file in tracked():
        if PACKAGE in file.parents and file.suffix != ".py":
            assert file in installed, f"{file.relative_to(ROOT)} is in no pattern of package-data"
    for folder in {file.parent for file in modules()}:
        assert (folder / "__init__.py").exists(), f"{folder} would not be installed: it has no __init__.py"
