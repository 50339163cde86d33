"""What a page is told of the attention queue: little, in the right order, and what became of the rest."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from orchestrator_app.dashboard.attention import WINDOW, Queue
from orchestrator_app.dashboard.screen import Screen
from orchestrator_app.orchestrator import Orchestrator
from orchestrator_app.settings import load_project
from orchestrator_app.testing import FakeExecutor, HandClock

SETTINGS = """
[project]
slots = 10000
[workflow]
isolation = "none"
phases = ["RUN"]
[phases.RUN]
retries = 0
[agents.any]
command = ["true"]
"""


class Session:
    """What a screen needs of the console, with the frames made by hand."""

    def __init__(self, orchestrator) -> None:
        self.orchestrator = orchestrator
        self.told: list = []
        self.touched = 0

    def tell(self, number, payload) -> None:
        self.told.append(payload["queue"])

    def touch(self) -> None:
        self.touched += 1

    def request(self, kind, unit=None, **args):
        return self.orchestrator.request(kind, unit, actor="operator:ana", **args)


class World:
    def __init__(self, folder) -> None:
        (folder / "orchestrator.toml").write_text(SETTINGS)
        self.clock = HandClock()
        self.executor = FakeExecutor(self.clock)
        self.orchestrator = Orchestrator(load_project(folder), executor=self.executor, clock=self.clock)
        self.scheduler = self.orchestrator.open()
        self.board = self.orchestrator.board
        self.session = Session(self.orchestrator)
        self.units: set[str] = set()
        self.items: set[int] = set()
        self.board.watch(self._note)

    def _note(self, records) -> None:
        self.units |= {record.unit for record in records if record.unit}
        self.items |= {record.item for record in records if hasattr(record, "item")}

    def step(self) -> None:
        self.scheduler.step(self.clock(), self.executor.wait(0))

    def ask(self, kind, unit=None, **args):
        future = self.session.request(kind, unit, **args)
        self.step()
        return future.result(0)

    def submit(self, *names, **fields) -> None:
        self.ask("submit", units=[{"name": name, **fields} for name in names])

    def fail(self, *names) -> None:
        for name in names:
            self.executor.exits(name, 1)
        self.step()

    def question(self, name, text="Which?") -> None:
        self.executor.says(name, type="ask", question=text)
        self.step()

    def queue(self, unit=None) -> Queue:
        self.units, self.items = set(), set()
        return Queue(Screen(self.session, 1), unit)

    def frame(self, queue: Queue):
        """The next frame, as it goes over the wire."""
        units, self.units = self.units, set()
        items, self.items = self.items, set()
        said = queue.changes(units, items)
        return None if said is None else json.loads(json.dumps(said))

    def order(self, queue: Queue) -> list[str]:
        """The units of the items in the window, after the next frame."""
        self.frame(queue)
        return [self.board.attention[number].unit for number in queue._said["order"]]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.orchestrator.log.close()


def test_the_most_blocking_comes_first_and_then_the_oldest(world):
    world.submit("old", "new", "root")
    world.submit("leaf", after=["root"])
    world.submit("leaf-of-leaf", after=["leaf"])
    world.fail("old")
    world.fail("new")
    world.fail("root")
    queue = world.queue()

    assert world.order(queue) == ["root", "old", "new"]
    (root,) = world.board.row("root").items
    assert (queue._told[root]["blocks"], queue._told[root]["blocked"]) == (2, ["leaf", "leaf-of-leaf"])


def test_an_item_is_moved_when_what_waits_for_it_changes(world):
    world.submit("a", "b")
    world.fail("a", "b")
    queue = world.queue()
    assert world.order(queue) == ["a", "b"]

    world.submit("behind", after=["b"])
    assert world.order(queue) == ["b", "a"]
    world.submit("far-behind", after=["behind"])
    world.ask("cancel", "behind")

    assert world.order(queue) == ["a", "b", "far-behind"]


def test_five_thousand_open_items_make_small_frames_and_a_quiet_queue_none(world):
    names = [f"u{number:04}" for number in range(5_000)]
    world.submit(*names)
    world.fail(*names)
    queue = world.queue()

    frames = [world.frame(queue)]
    while world.session.touched:
        world.session.touched = 0
        frames.append(world.frame(queue))

    assert frames[-1]["total"] == 5_000 and len(frames[-1]["order"]) == WINDOW
    assert max(len(json.dumps(frame)) for frame in frames) < 60_000
    assert world.frame(queue) is None
    world.ask("retry", names[0])
    after = world.frame(queue)
    assert len(after["items"]) == 1 and list(after["settled"]) == [str(frames[-1]["order"][0])]


def test_more_is_told_on_demand_and_a_long_text_whole_when_it_is_asked_for(world):
    names = [f"u{number:02}" for number in range(40)]
    world.submit(*names)
    world.fail(*names[:-1])
    world.question(names[-1], "long " * 5_000)
    queue = world.queue()
    assert len(world.frame(queue)["order"]) == WINDOW

    assert queue.hear({"queue": "more", "count": 60})
    second = world.frame(queue)
    assert len(second["order"]) == 40 and len(second["items"]) == 10
    (item,) = world.board.row(names[-1]).items
    assert len(second["items"][str(item)]["text"]) == 2_000
    queue.hear({"queue": "whole", "id": item})

    assert world.session.told == [{"whole": item, "text": "long " * 5_000, "length": 25_000}]


def test_who_settled_an_item_is_told_to_a_page_that_knew_of_it(world):
    world.submit("a")
    world.question("a")
    world.executor.exits("a")
    world.step()
    queue = world.queue()
    (item,) = world.board.row("a").items
    world.frame(queue)

    world.ask("answer", "a", text="postgres", item=item)

    assert world.frame(queue)["settled"][str(item)]["words"] == "answered by ana: postgres"


def test_dismissed_items_stand_apart_and_are_told_when_they_are_unfolded(world):
    world.submit("a", "b")
    world.fail("a", "b")
    queue = world.queue()
    world.frame(queue)

    world.ask("see", item=world.board.row("a").item)
    said = world.frame(queue)
    assert (said["total"], said["dismissed"], said["folded"]) == (1, 1, [])
    queue.hear({"queue": "fold", "open": True})
    said = world.frame(queue)

    assert said["folded"] == list(world.board.row("a").items)
    assert world.board.dismissed == 1
    world.ask("retry", "a")
    assert (world.frame(queue)["dismissed"], world.board.dismissed) == (0, 0)


def test_the_queue_of_one_unit_holds_its_items_only(world):
    world.submit("a", "b")
    world.fail("a")
    queue = world.queue("b")
    assert world.frame(queue)["total"] == 0

    world.fail("b")

    assert world.order(queue) == ["b"]


def test_one_answer_settles_all_that_were_chosen_and_says_what_was_refused(world):
    names = [f"u{number}" for number in range(5)]
    world.submit(*names)
    for name in names:
        world.question(name)
        world.executor.exits(name)
    world.step()
    queue = world.queue()
    world.frame(queue)
    queue.hear({"queue": "choose", "form": "question"})
    chosen = [int(number) for number in world.session.told.pop()["chosen"]]
    world.ask("answer", "u0", text="mine")

    async def choose() -> None:
        queue._screen.run = lambda work: asyncio.get_running_loop().create_task(work)
        queue.hear({"queue": "all", "id": 1, "kind": "answer", "ids": chosen, "args": {"text": "postgres"}})
        while not world.session.told:
            world.step()
            await asyncio.sleep(0)

    asyncio.run(choose())

    (told,) = world.session.told
    assert (told["all"], told["done"], told["refused"]) == (1, 4, 1)
    assert "answered by ana: mine" in told["why"][0]
    assert {world.board.row(name).answers[-1]["answer"] for name in names[1:]} == {"postgres"}


@pytest.mark.parametrize(
    "message",
    [
        {"queue": "more", "count": "many"},
        {"queue": "whole", "id": [1]},
        {"queue": "left", "ids": {"a": 1}},
        {"queue": "left", "ids": ["x", None, 1.5]},
        {"queue": "all", "kind": "submit", "ids": [1], "args": {}},
        {"queue": "all", "kind": "answer", "ids": [1], "args": {"actor": "operator:eve", "text": "x"}},
        {"queue": "all", "kind": "cancel", "ids": "all", "args": {}},
        {"queue": ["x"]},
    ],
)
def test_a_message_that_makes_no_sense_does_nothing(world, message):
    queue = world.queue()
    queue._screen.run = lambda work: SimpleNamespace(close=work.close())

    assert queue.hear(message)

    assert all(told == {"left": {}} for told in world.session.told)


def test_a_message_for_somebody_else_is_left_to_them(world):
    assert not world.queue().hear({"sort": "name"})
