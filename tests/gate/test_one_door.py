"""There is one door for changes: read off the code of the whole package, so that a new way round it fails here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "orchestrator_app"
#: The fields of a unit that say where it stands.
PLACE = {"status", "phase", "attempt", "version"}
CHANGES = re.compile(r"^\s*(INSERT|UPDATE|DELETE|TRUNCATE|MERGE|REPLACE)\b", re.IGNORECASE)
#: Who appends to the log: the gate, and what notes a repair in the log of a stopped project.
WRITERS = {"gate.py", "keeping.py"}
#: Where a page's document lives. Everything below is used by the scheduler's thread too.
FACES = (
    *("dashboard", "serve.py", "edge.py", "panel_auth.py", "open_files.py", "app_hooks.py", "main.py", "demo"),
    *("api/socket.py", "api/listening.py"),
)


def sources():
    for file in sorted(PACKAGE.rglob("*.py")):
        yield str(file.relative_to(PACKAGE)), ast.parse(file.read_text(), file)


def targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        found = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        found = [node.target]
    else:
        return []
    return [each for one in found for each in (one.elts if isinstance(one, ast.Tuple) else [one])]


def test_f5_nobody_but_the_fold_says_where_a_unit_stands() -> None:
    found = {
        f"{name}: {ast.unparse(target)}"
        for name, tree in sources()
        for node in ast.walk(tree)
        for target in targets(node)
        if isinstance(target, ast.Attribute) and target.attr in PLACE and ast.unparse(target.value) in ("unit", "row")
    }

    assert found == {f"model.py: unit.{field}" for field in PLACE}


def test_f5_nobody_but_the_store_writes_sql_and_nobody_but_the_gate_appends_to_the_log() -> None:
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and not name.startswith("store/"):
                assert not (CHANGES.match(node.value) and "transition" in node.value), f"{name}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("self.log.append", "log.append"):
                assert name in WRITERS, f"{name}:{node.lineno} appends to the log"


def test_f30_nothing_that_the_scheduler_runs_knows_of_pages_or_documents() -> None:
    for name, tree in sources():
        if name.startswith(FACES):
            continue
        for node in ast.walk(tree):
            modules = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.split(".")[0] not in ("panel", "bokeh", "panel_material_ui"), f"{name}:{node.lineno}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("curdoc", "add_next_tick_callback"), f"{name}:{node.lineno}"


def test_f30_pages_hand_over_to_their_own_thread_in_one_place() -> None:
    found = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "add_next_tick_callback"
    }

    assert found == {"dashboard/console.py"}
