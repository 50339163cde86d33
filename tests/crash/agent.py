"""What the attempts of the crash test run: `agent.py HERE SEED [verify]`. Standard library only, quick to start.

What it does follows from the seed, the unit, the phase and the attempt alone. It says everything it does in a file of
its own, `HERE/marks/UNIT.jsonl`, which the product knows nothing of; the checker compares. It holds a lock for as long
as it lives: who finds it taken at its start has met a second live process of its unit.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time

UNIT, PHASE, ATTEMPT = os.environ["ORCH_UNIT"], os.environ["ORCH_PHASE"], int(os.environ["ORCH_ATTEMPT"])
#: From this attempt on it is well-behaved, so that every unit comes to an end.
WILD = 5
PATIENCE = 30.0


class Agent:
    """One attempt."""

    def __init__(self, here: str, seed: str) -> None:
        self.here = here
        self.marks = os.open(f"{here}/marks/{UNIT}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.lock = os.open(f"{here}/locks/{UNIT}", os.O_WRONLY | os.O_CREAT, 0o600)
        self.chance = random.Random(f"{seed}/{UNIT}/{PHASE}/{ATTEMPT}")
        self.wild = ATTEMPT <= WILD
        self.number = 0
        self.ending = False

    def mark(self, what: str, **more: object) -> None:
        line = {"what": what, "phase": PHASE, "attempt": ATTEMPT, "pid": os.getpid(), "at": time.time(), **more}
        os.write(self.marks, json.dumps(line).encode() + b"\n")

    def say(self, type: str, **words: object) -> None:
        """A message with a running number, in one write."""
        self.number += 1
        line = json.dumps({"type": type, **words, "n": self.number}).encode() + b"\n"
        fd = os.open(os.environ["ORCH_EVENTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, line)
        os.close(fd)

    def likely(self, share: float) -> bool:
        """Whether to do something that only a wild agent does. Draws in any case, so that later draws stay the same."""
        return self.chance.random() < share and self.wild

    def nap(self, most: float) -> None:
        time.sleep(self.chance.random() * most)

    def begin(self) -> None:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.mark("OVERLAP")
        with open(f"{self.here}/marks/{UNIT}.jsonl") as file:
            earlier = [json.loads(line) for line in file]
        for one in earlier:
            if one["what"] == "CHILD" and starttime(one["child"]) == one["starttime"]:
                self.mark("OVERLAP", child=one["child"])
        stubborn = self.likely(0.1)
        self.mark("START", starttime=starttime(os.getpid()), answer=os.environ.get("ORCH_ANSWER", ""))
        signal.signal(signal.SIGTERM, lambda *_: self.told_to_end(stubborn))

    def told_to_end(self, stubborn: bool) -> None:
        if not self.ending:
            self.mark("TERM", stubborn=stubborn)
            if not stubborn:
                self.end(143)

    def end(self, code: int) -> None:
        self.ending = True
        self.mark("END", code=code)
        os._exit(code)

    # -- what the phases do

    def implement(self) -> int:
        os.makedirs(f"work/{UNIT}", exist_ok=True)
        self.say("session", id=f"session-{UNIT}")
        if self.likely(0.12):
            self.leave_a_child()
        for piece in range(1 + self.chance.randrange(3)):
            self.nap(0.1)
            self.write(f"work/{UNIT}/{ATTEMPT}-{piece}.txt")
            self.say("progress", percent=30 * piece, step=f"piece {piece}")
            self.say("usage", input_tokens=10, output_tokens=1, usd=0.001, model="m")
        if self.likely(0.12):
            with open(os.environ["ORCH_EVENTS"], "ab") as file:
                file.write(b"this is not JSON\n")
        if self.likely(0.2):
            self.nap(2.0)
        if UNIT.endswith("-brief"):
            time.sleep(60 if self.likely(0.4) else 0)  # until its time is up
            return self.result()
        if self.likely(0.15):
            self.ask_and_wait("question")
        if self.likely(0.1):
            self.ask_and_wait("approval")
        if self.likely(0.1):
            self.say("ask", question=self.question())
            self.mark("ASKED", question=self.question())
            return 0
        return self.result()

    def review(self) -> int:
        self.nap(0.15)
        self.say("test", name="all", state="passed")
        if self.likely(0.12):
            self.say("review", decision="changes", feedback=f"again {ATTEMPT}")
        elif self.likely(0.06):
            self.say("review", decision="escalate", feedback=f"who knows {ATTEMPT}")
        else:
            self.say("review", decision="approve")
        return self.result()

    def verify(self) -> int:
        """On the merged tree: the unit's work must be there."""
        self.nap(0.1)
        return 1 if not os.path.isdir(f"work/{UNIT}") or self.likely(0.06) else 0

    def result(self) -> int:
        if self.likely(0.12):
            return 3
        return 75 if self.likely(0.06) else 0

    # -- how they do it

    def write(self, path: str) -> None:
        with open(path, "w") as file:
            file.write(f"{UNIT} {ATTEMPT}\n")
        if self.chance.random() < 0.4:
            self.mark("LEFT", path=path)
            return
        author = ["-c", "user.name=agent", "-c", "user.email=agent@localhost"]
        for command in (["add", "--", path], [*author, "commit", "-q", "-m", f"{UNIT} {ATTEMPT} {path}", "--", path]):
            if subprocess.run(["git", *command], stdout=sys.stderr).returncode:
                self.mark("LEFT", path=path)
                return
        done = subprocess.run(["git", "rev-parse", "HEAD"], stdout=subprocess.PIPE, text=True)
        self.mark("COMMIT", sha=done.stdout.strip(), path=path)

    def leave_a_child(self) -> None:
        child = subprocess.Popen(["sleep", "120"], start_new_session=True, stdout=subprocess.DEVNULL)
        self.mark("CHILD", child=child.pid, starttime=starttime(child.pid))

    def question(self) -> str:
        return f"what now, {UNIT} {PHASE} {ATTEMPT}?"

    def ask_and_wait(self, kind: str) -> None:
        """Wait for the answer as long as a person may take; nobody may forget to hand it over."""
        question = f"{kind}: {self.question()}"
        self.say("ask", question=question, kind=kind)
        self.mark("ASKED", question=question)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                with open(os.environ["ORCH_ANSWERS"]) as file:
                    found = [json.loads(line) for line in file if line.endswith("\n")]
            except FileNotFoundError:
                found = []
            mine = [one["answer"] for one in found if one["question"] == question]
            if mine:
                self.mark("ANSWERED", question=question, answers=mine)
                return
            time.sleep(0.03)
        self.mark("UNANSWERED", question=question)


def starttime(pid: int) -> int:
    """When a living process began, in ticks since the boot; 0 if it is gone or only not yet reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


if __name__ == "__main__":
    agent = Agent(sys.argv[1], sys.argv[2])
    agent.begin()
    agent.end({"IMPLEMENT": agent.implement, "REVIEW": agent.review, "MERGE": agent.verify}[PHASE]())
