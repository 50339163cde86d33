"""The reviewer: looks at what the unit's branch changes, and asks for changes where a function has no docstring."""

import ast
from pathlib import Path

from tools import BASE, git, say, think


def review(unit):
    changed = git("diff", "--name-only", f"{BASE}...HEAD").split()
    print(f"{unit} changes {', '.join(changed) or 'nothing'}")
    think()
    missing = [
        f"{path}: {function.name} has no docstring"
        for path in changed
        if path.startswith("stockroom/") and Path(path).exists()
        for function in ast.walk(ast.parse(Path(path).read_text()))
        if isinstance(function, ast.FunctionDef) and not ast.get_docstring(function) and function.name != "__init__"
    ]
    if missing:
        say("review", decision="changes", feedback="\n".join(missing))
    else:
        say("review", decision="approve", feedback="every function says what it does")
