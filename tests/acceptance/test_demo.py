"""`orch demo`, headless: a dozen real work units in a real repository, each of which must end as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HEADLESS = "import sys; from pathlib import Path; from orchestrator_app.demo import run; "


def run_demo(words: str, where: Path, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TMPDIR": str(where)}
    return subprocess.run(
        [sys.executable, "-c", f"{HEADLESS}sys.exit(run({words}))"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=where,
        **options,
    )


@pytest.mark.slow
def test_every_unit_of_the_headless_demo_ends_as_it_should_and_nothing_stays_behind(tmp_path):
    done = run_demo("headless=True", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every unit ended as it should" in done.stdout
    assert done.stderr == ""
    assert not list(tmp_path.glob("orch-demo-*"))


@pytest.mark.slow
def test_a_unit_that_does_not_end_as_it_should_is_named_and_the_repository_stays(tmp_path):
    spoil = "from orchestrator_app.demo import stage; commit = stage._commit; stage._commit = spoil; "
    break_discount = (
        "def spoil(root):\n"
        "    file = root / 'agents/implement.py'\n"
        "    file.write_text(file.read_text().replace('percent) + 50)', 'percent))'))\n"
        "    commit(root)\n"
    )
    code = f"{break_discount}{HEADLESS}{spoil}sys.exit(run(headless=True, directory=Path('scratch')))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False
    )

    assert done.returncode == 1
    assert "not as it should be: discount should be DONE but is NEEDS_ATTENTION" in done.stderr
    assert "not as it should be: changelog should be DONE but is BLOCKED" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "scratch" / ".orchestrator").is_dir()


def test_the_demo_refuses_a_directory_that_is_not_empty(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")

    done = run_demo("headless=True, directory=Path('.')", tmp_path)

    assert done.returncode == 1 and "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_the_served_demo_prints_its_url_waits_for_its_operator_and_ends_with_ctrl_c(tmp_path, wait_until):
    code = f"{HEADLESS}sys.exit(run(headless=False))"
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
        )
    try:
        printed = (tmp_path / "output").read_text
        wait_until(lambda: "Ctrl-C ends the demo" in printed() or process.poll() is not None, 60, "the demo's guide")
        scratch = next(tmp_path.glob("orch-demo-*"))
        wait_until((scratch / ".orchestrator/worktrees/title-short").is_dir, 30, "the first worktree")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)

    assert "http://127.0.0.1:" in printed()
    assert "Traceback" not in printed()
    assert process.returncode == 0
    assert not list(tmp_path.glob("orch-demo-*"))
