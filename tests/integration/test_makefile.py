"""`make` on a machine where something is missing says what, in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("sh", "make", "test", "echo", "touch", "rm")


@pytest.fixture
def make(tmp_path: Path):
    """Runs `make demo` in a directory without an environment; the PATH has what make itself needs and `programs`."""
    if shutil.which("make") is None:
        pytest.skip("no make on the PATH")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()

    def make(*arguments: str, **given: str) -> str:
        for name in NEEDED:
            if found := shutil.which(name):
                (programs / name).symlink_to(found)
        for name, script in given.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        environment = {"PATH": str(programs)}
        done = subprocess.run(
            ["make", "demo", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode != 0 and not (tmp_path / ".venv").exists()
        return next(line for line in done.stderr.splitlines() if not line.startswith("make"))

    return make


def test_without_git_make_says_so(make) -> None:
    assert make(python3="exit 0").startswith("git is missing: install it")


def test_without_a_modern_python_make_says_so(make) -> None:
    old = "exit 1"  # what the check of the version ends with

    assert make(git="exit 0", python3=old).startswith("Python 3.11 or newer is missing: install it, or name it")


def test_a_named_python_that_is_too_old_is_named(make) -> None:
    assert make("PYTHON=python2", git="exit 0", python2="exit 1").startswith("python2 is not Python 3.11 or newer")


def test_a_python_without_venv_is_said(make) -> None:
    no_venv = 'case "$2" in *ensurepip*) exit 1;; esac'

    assert make(git="exit 0", python3=no_venv).startswith("Python's venv module is missing: install it")


def test_make_says_what_there_is() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make on the PATH")

    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})

    assert "make demo" in done.stdout and "make test" in done.stdout
