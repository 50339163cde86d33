"""What an agent needs: speak to the orchestrator, edit files, commit, run the tests.

`say` appends a line to the file $ORCH_EVENTS; `orch emit` does the same from a shell.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

FEEDBACK = os.environ.get("ORCH_FEEDBACK", "")
ANSWER = os.environ.get("ORCH_ANSWER", "")
BASE = os.environ.get("ORCH_BASE", "main")
PACE = float(os.environ.get("DEMO_PACE", "1"))


def say(message_type, **words):
    """Tell the orchestrator something: progress, a question, a review, a note."""
    with open(os.environ["ORCH_EVENTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps({"type": message_type, **words}) + "\n")


def think(moments=1):
    """Take the time that a real agent would; with DEMO_PACE=0, none."""
    time.sleep(moments * PACE)


def step(percent, text):
    """Report progress, then take a moment."""
    print(text, flush=True)
    say("progress", percent=percent, step=text)
    think()


def wait_for_answer():
    """Wait, alive, for the operator's answer: a line in the file $ORCH_ANSWERS."""
    answers = Path(os.environ["ORCH_ANSWERS"])
    while not (answers.exists() and answers.read_text().endswith("\n")):
        time.sleep(0.1)
    return json.loads(answers.read_text().splitlines()[-1])["answer"]


def status_of(unit):
    """Where another unit stands."""
    command = ["orch", "--project", os.environ["ORCH_PROJECT"], "show", unit, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["status"]


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def append(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def replace(path, old, new):
    """Replace a text that must be there, unless an earlier attempt has done so."""
    text = Path(path).read_text(encoding="utf-8")
    if new in text:
        return
    if old not in text:
        sys.exit(f"{path} does not hold what should be replaced: {old!r}")
    write(path, text.replace(old, new))


def git(*args, check=True):
    """Run git in the worktree; what it printed."""
    done = subprocess.run(["git", *args], capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"git {' '.join(args)} failed: {done.stderr.strip()}")
    return done.stdout


def commit(message):
    git("add", "--all")
    git("commit", "-q", "-m", message)


def tests_pass():
    """Run the project's tests; whether they pass."""
    say("test", name="unittest", state="started")
    command = [sys.executable, "-B", "-m", "unittest", "discover", "-s", "tests", "-t", "."]
    passed = subprocess.run(command, check=False).returncode == 0
    say("test", name="unittest", state="passed" if passed else "failed")
    return passed


def finish(message):
    """Commit if the tests pass; end as failed if they don't."""
    if not tests_pass():
        sys.exit("the tests fail")
    commit(message)
