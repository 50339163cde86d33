"""The demo's agent: run in a unit's worktree, it does one phase of that unit.

What it has to know is in its environment: ORCH_UNIT, ORCH_PHASE, ORCH_FEEDBACK, ORCH_ANSWER and so on.
"""

import os
import sys

import implement
import review
from tools import say, tests_pass, think

unit, phase = os.environ["ORCH_UNIT"], os.environ["ORCH_PHASE"]


def plan():
    change = implement.CHANGES[unit]
    say("note", level="info", message=f"the plan: {change.__doc__}")
    print(f"Plan for {unit}: {change.__doc__}")
    think()


def complete():
    """The whole test suite once more, before the work is merged."""
    if not tests_pass():
        sys.exit("the tests fail: this is not complete")


print(f"{unit}, {phase}, attempt {os.environ['ORCH_ATTEMPT']}", flush=True)
if phase == "PLAN":
    plan()
elif phase == "IMPLEMENT":
    implement.CHANGES[unit]()
elif phase == "REVIEW":
    review.review(unit)
elif phase == "COMPLETE":
    complete()
