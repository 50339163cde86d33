"""What the operations of a plan do to a world."""

from __future__ import annotations

from typing import Any

from orchestrator_app.executors.base import Exited, Message, Said, Vanished
from orchestrator_app.states import Status

from .fake_host import Process
from .orderly import stop
from .plan import DAY, Luck, Op
from .world import World

NAMES = tuple(f"u{number}" for number in range(7))
AIMS = ("before the commit", "after the commit", "while git", "git begins", "in a watcher")


def happen(world: World, op: Op) -> None:
    if op.luck % 4:  # what the server sent arrives, mostly
        world.host.receive()
    _OPS[op.kind](world, Luck(op.luck))


def _units(world: World, *statuses: Status) -> list[str]:
    """The units in one of these statuses, or else all."""
    units = world.ledger.units
    return [name for name, row in units.items() if row.status in statuses] or list(units)


def _boot_at_times(world: World, luck: Luck) -> bool:
    """Whether a server is there to be asked; a dead one is started, after a while."""
    if not world.up and luck.once_in(2):
        world.boot()
    return world.up


# -- people


def submit(world: World, luck: Luck) -> None:
    if not _boot_at_times(world, luck):
        return
    count = 1 + luck.below(4)
    free = [name for name in NAMES if name not in world.ledger.units] or [NAMES[0]]
    names = free[:count]
    units = []
    for name in reversed(names) if luck.once_in(2) else names:
        known = [*names, *world.ledger.units]
        unit: dict[str, Any] = {"name": name, "after": [luck.of(known)] if luck.once_in(2) else []}
        if luck.once_in(3):
            unit["after"] = list(dict.fromkeys([*unit["after"], luck.of(known)]))
        if name in unit["after"] and not luck.once_in(4):
            unit["after"].remove(name)
        if luck.once_in(3):
            unit["touches"] = [luck.of(["src/**", "src/a.py", "docs/"])]
        if luck.once_in(4):
            unit["labels"] = ["gpu"]
        if luck.once_in(4):
            unit["priority"] = luck.below(5) - 2
        units.append(unit)
    world.ask("submit", units=units)


def hold(world: World, luck: Luck) -> None:
    if _boot_at_times(world, luck) and world.ledger.units:
        unit = luck.of(_units(world, Status.READY, Status.BLOCKED, Status.RUNNING, Status.NEEDS_ATTENTION))
        world.ask(luck.of(["cancel", "pause"]), unit, version=_version(world, unit, luck))


def let_go(world: World, luck: Luck) -> None:
    if _boot_at_times(world, luck) and world.ledger.units:
        unit = luck.of(_units(world, Status.PAUSED, Status.CANCELLED))
        world.ask("resume" if world.ledger.units[unit].status is Status.PAUSED else "reopen", unit)


def _version(world: World, unit: str, luck: Luck) -> int | None:
    """Mostly none; sometimes the version that the operator saw, sometimes an older one."""
    if not luck.once_in(3):
        return None
    return world.ledger.units[unit].version - (1 if luck.once_in(3) else 0)


def decide(world: World, luck: Luck) -> None:
    if not (_boot_at_times(world, luck) and world.ledger.units):
        return
    unit = luck.of(_units(world, Status.NEEDS_ATTENTION))
    kind = luck.of(["answer", "answer", "answer", "approve", "reject", "retry", "retry", "accept"])
    items = sorted(world.ledger.units[unit].items)
    item = luck.of(items) if items and luck.once_in(2) else (luck.below(40) if luck.once_in(8) else None)
    args: dict[str, Any] = {}
    if kind == "answer":
        args["text"] = luck.of(["yes", "approve", "wait", "retry", "reject: no", ""])
    elif kind == "accept":
        args["reason"] = "good enough"
    elif kind == "retry" and luck.once_in(3):
        args.update(phase="IMPLEMENT", feedback="it conflicts with main")
    world.ask(kind, unit, item=item, version=_version(world, unit, luck), **args)


def resolve(world: World, luck: Luck) -> None:
    if _boot_at_times(world, luck) and world.ledger.units:
        unit = luck.of(_units(world, Status.NEEDS_ATTENTION))
        other = luck.of(list(world.ledger.units))
        world.ask("resolve", unit, other=other, ruling=luck.of(["serialize", "serialize", "parallelize"]))


def edit(world: World, luck: Luck) -> None:
    if _boot_at_times(world, luck) and world.ledger.units:
        names = list(world.ledger.units)
        unit = luck.of(names)
        given: dict[str, Any] = {"priority": luck.below(7) - 3} if luck.once_in(3) else {}
        if not given or luck.once_in(2):
            given["after"] = list(dict.fromkeys(luck.of(names) for _ in range(luck.below(3))))
        world.ask("edit", unit, version=_version(world, unit, luck), set=given)


def restart(world: World, luck: Luck) -> None:
    if _boot_at_times(world, luck) and world.ledger.units:
        world.ask("restart", luck.of(_units(world, Status.RUNNING)))


def comment(world: World, luck: Luck) -> None:
    if _boot_at_times(world, luck) and world.ledger.units:
        world.ask("comment", luck.of(list(world.ledger.units)), text="mind the gap")


def see(world: World, luck: Luck) -> None:
    items = [item for row in world.ledger.units.values() for item in row.items]
    if _boot_at_times(world, luck) and items:
        world.ask("see", item=luck.of(items))


def dispatch(world: World, luck: Luck) -> None:
    if _boot_at_times(world, luck):
        world.ask("dispatch", paused=luck.once_in(2))


# -- agents


def agent(world: World, luck: Luck) -> None:
    """A live attempt does something."""
    live = [one for one in world.host.live() if not one.hung or one.told]
    if not live:
        return
    process = luck.of(live)
    if process.told and not process.deaf and luck.once_in(2):
        world.host.obeys(process)
        world.tell("agent obeys", *process.key)
        return
    if process.waits and not luck.once_in(5):
        if luck.once_in(3):
            _asks(world, process, luck)
        else:
            _reads_its_answer(world, process)
        return
    what = luck.of(["ends", "ends", "ends", "fails", "defers", "dies", "asks", "asks", "speaks", "speaks", "reviews"])
    world.tell("agent", *process.key, what)
    if what == "ends":
        world.host.ends(process, 0)
    elif what == "fails":
        world.host.ends(process, luck.of([1, 1, 75]))
    elif what == "dies":
        if luck.once_in(2):
            world.host.vanishes(process)
        else:
            world.host.ends(process, None, signal=9)
    elif what == "defers":
        process.says(type="defer", until="2023-11-15T00:00:00Z" if luck.once_in(2) else "soon", reason="a limit")
        world.host.ends(process, 75)
    elif what == "asks":
        _asks(world, process, luck)
    elif what == "reviews":
        process.says(type="review", decision=luck.of(["approve", "changes", "escalate"]), feedback="more tests")
        if luck.once_in(2):
            world.host.ends(process, 0)
    elif luck.once_in(4):
        process.babbles()
    else:
        word = luck.of(
            [
                {"type": "progress", "percent": luck.below(100)},
                {"type": "usage", "input_tokens": 3, "usd": float("nan")},
                {"type": "session", "id": "s"},
                {"type": "heartbeat"},
                {"type": "nonsense"},
                {"type": "note", "level": "error", "message": "hm"},
            ]
        )
        process.says(**word)


def _asks(world: World, process: Process, luck: Luck) -> None:
    """It asks, then waits for the answer, or ends; who waits may ask more."""
    if len(process.waits) == 3:
        return
    question = f"which {len(process.asked)}?"
    process.asked.append(question)
    process.says(type="ask", question=question, kind=luck.of(["question", "approval"]))
    if luck.once_in(3):
        world.host.ends(process, 0)
    else:
        process.waits.append(question)


def _reads_its_answer(world: World, process: Process) -> None:
    answered = {line["question"] for line in process.answers}
    if not answered.isdisjoint(process.waits):
        world.tell("agent reads its answer", *process.key)
        process.waits = [question for question in process.waits if question not in answered]


# -- the server, git, time, clients


def step(world: World, luck: Luck) -> None:
    if not world.up:
        world.boot()
    if world.up:
        world.step()


def flow(world: World, luck: Luck) -> None:
    """For a while all goes well: what git has to do is done, and some agents end their work."""
    step(world, luck)
    for _ in range(40):
        if not (world.up and world.project.isolation == "worktree" and world.crew.pieces):
            break
        world.git(luck)
    step(world, luck)
    for process in world.host.live():
        if not process.waits and not (process.hung or process.told) and not luck.once_in(3):
            world.tell("agent", *process.key, "ends")
            world.host.ends(process, 0)
    step(world, luck)


def git(world: World, luck: Luck) -> None:
    for _ in range(1 + luck.below(6)):
        world.git(luck)


def time(world: World, luck: Luck) -> None:
    world.now += luck.of([0.1, 1, 5, 12, 30, 120, 700])
    world.tell("time", world.now)
    world.host.tick()
    if luck.once_in(2):
        step(world, luck)


def client(world: World, luck: Luck) -> None:
    one = luck.of(world.clients)
    if not world.up:
        return
    if one.feed is None:
        one.connect(world.board, lambda: world.now)
    one.wakes()
    if luck.once_in(2):
        one.receives(world.board)


# -- what goes wrong


def crash(world: World, luck: Luck) -> None:
    """The server dies at once, or at one of the next points, or the next time that it does something certain."""
    if luck.once_in(2):
        world.aim = luck.of(
            ["was started", "was started", "is started", "is stopped", "the answer", "after a step", *AIMS]
        )
    elif world.up and luck.once_in(4):
        world.where = "at rest"
        world.crashed()
    else:
        world.fuse = 1 + luck.below(luck.of([4, 12, 40]))


def disk_fails(world: World, luck: Luck) -> None:
    world.disk.refusals = 1 + luck.below(3)


def disk_answers_late(world: World, luck: Luck) -> None:
    world.disk.late_answers = 1


def watcher_raises(world: World, luck: Luck) -> None:
    world.watcher_raises = 1 + luck.below(4)


def wall_is_set(world: World, luck: Luck) -> None:
    world.set_by += luck.of([-DAY, DAY, -3600, 3600, -2, 2, 400 * DAY, -400 * DAY])
    world.tell("the wall clock is set", world.wall)


def suspend(world: World, luck: Luck) -> None:
    """Eight hours pass, of which the steady clock may know nothing."""
    if luck.once_in(2):
        world.now += 28_800
    else:
        world.set_by += 28_800
    world.tell("suspended", world.now)


def git_fails(world: World, luck: Luck) -> None:
    if luck.once_in(3):
        world.repository.blocked = 1
    else:
        world.repository.fails = 1 + luck.below(3)
        world.repository.passing = luck.once_in(2)


def stranger_commits(world: World, luck: Luck) -> None:
    change = (f"f{luck.below(6)}", f"stranger {len(world.repository.commits)}")
    world.repository.stranger(change)
    world.tell("a stranger commits", change)


def start_fails(world: World, luck: Luck) -> None:
    if world.up:
        world.executor.fails_to_start = 1 + luck.below(3)
        world.executor.fails_to_open = luck.below(3)


def spawn_fails(world: World, luck: Luck) -> None:
    world.host.spawn_fails = 1


def late_words(world: World, luck: Luck) -> None:
    """Something is heard of a fenced attempt, one that its unit has long left behind."""
    if not world.up:
        return
    newest = {name: row.attempt for name, row in world.ledger.units.items()}
    fenced = [key for key in world.host.processes if key[1] < newest[key[0]] and key not in world.executor._known]
    if not fenced:
        return
    unit, attempt = luck.of(fenced)
    report = luck.of(
        [
            Exited(unit, attempt, 0, None, "exit", "", world.wall, world.wall, 0),
            Exited(unit, attempt, 1, None, "exit", "", world.wall, world.wall, 0),
            Vanished(unit, attempt, "its process vanished"),
            Said(unit, attempt, [Message(10**6, {"type": "ask", "question": "late?"}, None, "")]),
            Said(unit, attempt, [Message(10**6, {"type": "review", "decision": "changes"}, None, "")]),
        ]
    )
    world.tell("late words", report)
    world.executor.inject(report)


def deaf(world: World, luck: Luck) -> None:
    world.host.deaf = 1 + luck.below(2)


def hangs(world: World, luck: Luck) -> None:
    world.host.hangs = 1


def answer_not_written(world: World, luck: Luck) -> None:
    world.answer_fails = 1


def room(world: World, luck: Luck) -> None:
    world.free = luck.of([1 << 20, 110 << 20, 1 << 40])
    world.tell("free disk space", world.free)


def client_breaks(world: World, luck: Luck) -> None:
    one = luck.of(world.clients)
    match luck.below(3):
        case 0:
            one.disconnect()
        case 1:
            one.scheduled.clear()
        case _:
            if one.feed is not None:
                one.feed.acknowledge(1_000_000 + luck.below(20))


def reports_wait(world: World, luck: Luck) -> None:
    if world.up:
        held = luck.of([*NAMES, ""])
        world.executor.held_back = {held} if held else set()


_OPS = {
    function.__name__: function
    for function in (
        *(submit, hold, let_go, decide, resolve, edit, restart, comment, see, dispatch),
        *(agent, step, flow, git, time, client, stop),
        *(crash, disk_fails, disk_answers_late, watcher_raises, wall_is_set, suspend, git_fails, stranger_commits),
        *(start_fails, spawn_fails, late_words, deaf, hangs, answer_not_written, room, client_breaks, reports_wait),
    )
}
