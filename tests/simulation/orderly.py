"""An orderly stop, in each of its ways, while agents run and things go wrong; L8: it comes to its end."""

from __future__ import annotations

from orchestrator_app.requests import Request
from orchestrator_app.states import Status
from orchestrator_app.stopping import Stop

from .fake_disk import Crash
from .fake_host import Violation
from .plan import Luck
from .world import World

ROUNDS = 80


def stop(world: World, luck: Luck) -> None:
    """Stop the server; the next one starts when somebody needs it."""
    if not world.up:
        return
    how = luck.of(list(Stop))
    world.executor.held_back = set()
    _ask(world, how)
    for number in range(ROUNDS):
        world.step()
        if not world.up:
            return
        if world.scheduler._finished():
            break
        _all_goes_on(world)
        if not world.up:
            return
        if number == ROUNDS // 2:
            _ask(world, Stop.AGENTS)  # people lose their patience
    else:
        raise Violation(f"L8: the server does not come to its end ({how})")
    _check(world, world.scheduler.ending)
    _close(world)


def _ask(world: World, how: Stop) -> None:
    world.tell("stop", str(how))
    world.stopping = how is Stop.AGENTS
    world.scheduler.put(Request("close", None, "scheduler", {"how": how}, "close"))


def _all_goes_on(world: World) -> None:
    """A second passes: git works, who was told to end ends, who was not ends its work, if nothing keeps it."""
    world.host.receive()
    try:
        for _ in range(40):
            if not (world.project.isolation == "worktree" and world.crew.pieces):
                break
            world.tell("git", world.crew.go_on(0))
    except Crash:
        world.crashed()
        return
    for process in world.host.live():
        if process.told and not process.deaf:
            world.host.obeys(process)
        elif not process.told and not process.hung and not process.waits:
            world.host.ends(process, 0)
    world.now += 1


def _check(world: World, how: Stop) -> None:
    world.host.receive()
    for process in world.host.live():
        unit = world.ledger.units[process.key[0]]
        if how is Stop.AGENTS and process.key not in world.ledger.strays:
            raise Violation(f"L8: {process.key} lives though all agents were to end")
        if how is Stop.DRAIN and unit.status is Status.RUNNING:
            raise Violation(f"L8: {process.key} runs though the server waited for all that runs")


def _close(world: World) -> None:
    """The rest of `Orchestrator.stop`."""
    world.tell("stopped")
    world.stopping = False
    if world.project.isolation == "worktree":
        world.fuse, world.aim = 0, ""
        world.crew.close()
    world.executor.close()
    world.disk.drop(world.log)
    world.scheduler = None
    for client in world.clients:
        client.forget()
