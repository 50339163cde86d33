"""The faults stop: from here on everything must come to its end in a bounded number of rounds.

The server sleeps as its thread does: a request, a report or a timer wakes it, and nothing else.
"""

from __future__ import annotations

from orchestrator_app.states import Status
from orchestrator_app.stopping import Stop

from .fake_host import Process, Violation
from .happenings import _reads_its_answer, stranger_commits
from .plan import Luck
from .world import PLENTY, World

#: Steps that the server may take on end without time going on, and rounds until all is done.
SPIN, ROUNDS = 300, 400


def settle(world: World) -> None:
    """Let everything end, with people who do what the attention queue and the board tell them."""
    _faults_stop(world)
    for number in range(1, ROUNDS + 1):
        _run_until_idle(world)
        _check_idle(world)
        if all(row.status is Status.DONE for row in world.ledger.units.values()) and not world.host.live():
            break
        if number % 100 == 0:
            _people_see_hangs(world)
        if not (_people_act(world) or _agents_go_on(world) or _time_goes_on(world) or _people_see_hangs(world)):
            raise Violation(f"L4: nothing goes on any more: {_where_all_is(world)}")
    else:
        raise Violation(f"L4: not at its end after {ROUNDS} rounds: {_where_all_is(world)}")
    _check_end(world)
    _stop(world)


def _faults_stop(world: World) -> None:
    world.tell("the faults stop")
    world.fuse, world.aim = 0, ""
    world.disk.refusals = world.disk.late_answers = 0
    world.watcher_raises = world.answer_fails = 0
    world.repository.fails = world.repository.blocked = 0
    world.host.spawn_fails = world.host.deaf = world.host.hangs = 0
    world.free = PLENTY
    world.boot()
    world.executor.fails_to_start = world.executor.fails_to_open = 0
    world.executor.held_back = set()


def _run_until_idle(world: World) -> None:
    """Whatever is under way arrives; the server steps when it is woken, and sleeps when it is not."""
    for _ in range(SPIN):
        world.host.receive()
        world.host.tick()
        while world.project.isolation == "worktree" and world.crew.pieces:
            world.tell("git", world.crew.go_on(world.chance.randrange(4)))
            if world.strangers and world.chance.random() < 0.1:
                world.strangers -= 1
                stranger_commits(world, Luck(world.chance.getrandbits(30)))
        if not world.wakes():
            return
        world.step()
    raise Violation(f"the server spins: {SPIN} steps without time going on")


def _people_act(world: World) -> bool:
    """Whoever looks at the attention queue and the board decides what is there to be decided."""
    acted = False
    board = world.board
    if board.dispatch_paused:
        world.ask("dispatch", paused=False)
        acted = True
    for item in sorted(board.attention.values(), key=lambda item: item.id):
        unit = board.units[item.unit]
        if item.kind == "blocked" or item.id != unit.item:
            continue  # whoever is cancelled is reopened below
        acted = True
        if item.kind == "question":
            world.ask("answer", item.unit, item=item.id, text="yes")
        elif item.kind == "approval":
            world.ask("approve", item.unit, item=item.id)
        elif item.kind == "stall":
            world.ask("retry", item.unit, item=item.id)
        elif item.other is not None:
            world.ask("resolve", item.unit, other=item.other, ruling="parallelize", item=item.id)
        else:
            world.repository.take_in_base(item.unit)
            world.ask("retry", item.unit, item=item.id)
    for name, unit in board.units.items():
        if unit.status is Status.PAUSED:
            world.ask("resume", name)
            acted = True
        elif unit.status is Status.CANCELLED:
            world.ask("reopen", name)
            acted = True
    return acted


def _people_see_hangs(world: World) -> bool:
    """What hangs in a phase without limits is for people to see."""
    hung = [process.key[0] for process in world.host.live() if process.hung and not process.told]
    for name in hung:
        world.ask("restart", name)
    return bool(hung)


def _agents_go_on(world: World) -> bool:
    acted = False
    for process in world.host.live():
        if process.told and not process.deaf:
            world.host.obeys(process)
        elif process.hung or process.told:
            continue
        elif process.waits:
            _reads_its_answer(world, process)
            if process.waits:
                continue
        else:
            world.host.ends(process, 0)
        world.tell("agent goes on", *process.key)
        acted = True
    return acted


def _time_goes_on(world: World) -> bool:
    """To the next moment at which anything is due: a timer of the server, a deadline of the host."""
    timer = world.scheduler._next_timer(world.now)
    due = [at for at in (world.host.next_deadline(), None if timer is None else world.now + timer) if at is not None]
    if not due:
        return False
    world.now = max(world.now, min(due)) + 0.001
    world.tell("time", world.now)
    return True


# -- what holds while nothing moves


def _check_idle(world: World) -> None:
    if "log" in world.scheduler.faults:
        return  # the disk has failed: what is to be done waits for the next try
    for name, row in world.ledger.units.items():
        live = world.host.live(name)
        if row.status is Status.RUNNING and not live:
            raise Violation(f"L2: {name} is RUNNING, and nothing of it is under way")
        for process in live:
            _check_live(world, name, process)
    _check_dispatch(world)
    for client in world.clients:
        if client.feed is None:
            client.connect(world.board, lambda: world.now)
        client.catches_up(world.board)
        client.check_picture(world.board)


def _check_live(world: World, name: str, process: Process) -> None:
    row = world.ledger.units[name]
    wanted = row.attempt == process.key[1] and row.status in (Status.RUNNING, Status.NEEDS_ATTENTION)
    if not wanted and not process.told:
        raise Violation(f"L3: {process.key} lives, and nobody ends it; {name} is {row.status}, attempt {row.attempt}")
    if name in world.scheduler._undelivered:
        return  # its answer could not be written: it is tried again in a second
    asked = {world.board.attention[number].text for number in world.board.row(name).items}
    for question in process.waits if wanted and not process.told else ():
        answered = [one for one in row.answers if one["attempt"] == row.attempt and one["question"] == question]
        if answered and not any(line["question"] == question for line in process.answers):
            raise Violation(f"L4: the answer to {question!r} never reaches {process.key}, which waits for it")
        if not answered and question not in asked:
            raise Violation(f"L4: {process.key} waits for an answer to {question!r}, and nobody is asked")


def _check_dispatch(world: World) -> None:
    """L7: who may start has started."""
    ledger = world.ledger
    holders = ledger.holders()
    if ledger.dispatch_paused or len(holders) >= world.project.slots or world.scheduler._room.lack:
        return
    for name, row in ledger.units.items():
        if row.status is not Status.READY or world.host.live(name):
            continue
        if row.not_before is not None and row.not_before > world.now:
            continue
        labels = [label for one in holders for label in ledger.units[one].labels]
        if set(labels) & set(row.labels):
            continue
        if row.phase == "MERGE" and any(ledger.units[one].phase == "MERGE" for one in holders):
            continue
        raise Violation(f"L7: {name} is READY and {len(holders)} of {world.project.slots} slots are taken: {holders}")


# -- the end


def _check_end(world: World) -> None:
    if world.board.attention:
        raise Violation(f"L4: items are open though all units are DONE: {sorted(world.board.attention)}")
    world.check_replay()
    repository = world.repository
    if lost := repository.lost():
        raise Violation(f"I10: changes are nowhere any more: {sorted(lost)}")
    if world.project.isolation == "worktree":
        world.crew.sweep(world.scheduler._is_merged)
        _run_until_idle(world)
        merged = repository.content(repository.base)
        for unit, sha in repository.branches.items():
            work = repository.content(sha) | repository.worktrees.get(unit, set())
            if work <= merged and world.scheduler._is_merged(unit):
                raise Violation(f"I10: {unit} is merged, and its branch was left behind")


def _stop(world: World) -> None:
    """L8: an orderly stop comes to its end."""
    world.tell("stop")
    world.stopping = True
    world.scheduler.stop(Stop.AGENTS)
    for _ in range(5):
        world.step()
        if world.scheduler._finished():
            return
    raise Violation("L8: the server does not stop though nothing runs")


def _where_all_is(world: World) -> str:
    return ", ".join(f"{name} {row.status} {row.phase}/{row.attempt}" for name, row in world.ledger.units.items())
