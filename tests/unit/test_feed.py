"""A client that applies every frame sees what the board says, however slow it is and whatever gets lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_app.feed import Feed
from orchestrator_app.model import Board
from orchestrator_app.states import MOVES, Status, Trigger
from orchestrator_app.store.log import utc
from orchestrator_app.store.records import AttentionChange, Event, Transition


class Client:
    """A browser: keeps the frames that come, applies and acknowledges them when it gets round to it."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.frames: list[dict] = []
        self.scheduled: list = []
        self.delays: list[float] = []
        self.picture: dict = {}
        self.now = 0.0
        self.begun = False
        self.feed = Feed(board, self.frames.append, self.schedule, self.content, clock=lambda: self.now)

    def schedule(self, function, delay) -> None:
        self.scheduled.append(function)
        self.delays.append(delay)

    def open(self) -> None:
        self.begun = False
        self.feed.open()

    def content(self, units, items):
        keys = [("unit", name) for name in units] + [("item", number) for number in items] + [("head", "")]
        if not self.begun:
            self.begun = True
            keys = [("unit", name) for name in self.board.units] + [("item", number) for number in self.board.attention]
            keys.append(("head", ""))
        return {"changes": [[*key, self.value(key)] for key in keys]}

    def value(self, key):
        kind, name = key
        if kind == "unit":
            unit = self.board.units[name]
            return [str(unit.status), self.board.waits_for(name), sorted(self.board.dependents(name))]
        if kind == "item":
            item = self.board.attention.get(name)
            return item and item.title
        return dict(self.board.counts)

    def apply_one(self) -> None:
        frame = self.frames.pop(0)
        for kind, name, value in frame["changes"]:
            self.picture[kind, name] = value
        self.feed.acknowledge(frame["frame"])

    def run_scheduled(self) -> None:
        while self.scheduled:
            self.scheduled.pop(0)()

    def catch_up(self) -> None:
        self.run_scheduled()
        while self.frames:
            self.apply_one()
            self.run_scheduled()

    @property
    def sees(self) -> dict:
        return {key: value for key, value in self.picture.items() if value is not None}


def moved(board: Board, name: str, trigger: Trigger, at: int = 0, **fields):
    unit = board.units.get(name)
    status, version = (unit.status, unit.version) if unit else (Status.NEW, 0)
    target = MOVES[status, trigger]
    return Transition(
        board.seq + 1 + at, name, version + 1, status, trigger, target, "RUN", 0, "scheduler", "c", None,
        {"set": fields}, utc(0),
    )  # fmt: skip


def expected(client: Client) -> dict:
    keys = [("unit", name) for name in client.board.units] + [("item", number) for number in client.board.attention]
    return {key: client.value(key) for key in [*keys, ("head", "")]}


def test_many_changes_to_one_unit_are_one_change():
    board = Board()
    client = Client(board)
    client.open()
    client.catch_up()

    for trigger in (Trigger.SUBMIT, Trigger.PAUSE, Trigger.RESUME, Trigger.CANCEL):
        board.fold([moved(board, "a", trigger)])
    client.run_scheduled()

    (frame,) = client.frames
    assert [change[:2] for change in frame["changes"]].count(["unit", "a"]) == 1
    client.catch_up()
    assert client.sees == expected(client)


def test_the_next_frame_waits_for_the_acknowledgement_of_the_one_before():
    board = Board()
    client = Client(board)
    client.open()

    for name in "abc":
        board.fold([moved(board, name, Trigger.SUBMIT)])
        client.run_scheduled()

    assert len(client.frames) == 1
    client.catch_up()
    assert client.sees == expected(client)
    assert client.feed.latency is not None


def test_f27_a_sleeping_client_costs_a_set_of_keys_and_never_a_queue():
    board = Board()
    client = Client(board)
    client.open()
    board.fold([moved(board, "a", Trigger.SUBMIT)])

    for _ in range(1_000):
        board.fold([moved(board, "a", Trigger.PAUSE)])
        board.fold([moved(board, "a", Trigger.RESUME)])

    assert len(client.feed._units) <= 1 and len(client.frames) == 1 and len(client.scheduled) <= 1


def test_frames_keep_their_distance_and_a_change_after_a_rest_goes_out_at_once():
    board = Board()
    client = Client(board)
    client.open()
    client.catch_up()

    client.now += 0.01
    board.fold([moved(board, "a", Trigger.SUBMIT)])
    client.catch_up()
    client.now += 5
    board.fold([moved(board, "b", Trigger.SUBMIT)])
    client.catch_up()

    soon, at_once = client.delays
    assert 0.02 < soon < 0.04 and at_once == 0
    assert client.sees == expected(client)


def test_a_closed_feed_leaves_nothing_behind_on_the_board():
    board = Board()
    clients = [Client(board) for _ in range(5)]
    for client in clients:
        client.open()
    assert len(board._watchers) == 5

    for client in clients:
        client.feed.close()

    assert not board._watchers
    board.fold([moved(board, "a", Trigger.SUBMIT)])
    assert not any(client.scheduled for client in clients)


def test_f26_a_lost_wake_up_heals_as_soon_as_the_client_is_heard_of():
    board = Board()
    client = Client(board)
    client.open()
    client.catch_up()
    board.fold([moved(board, "a", Trigger.SUBMIT)])
    client.scheduled.clear()

    client.feed.wake()

    client.catch_up()
    assert client.sees == expected(client)


def test_f4_a_frame_that_can_not_be_made_holds_up_no_later_one():
    board = Board()
    client = Client(board)
    client.open()
    client.catch_up()
    tell = client.feed._content
    client.feed._content = lambda units, items: {}[0]
    board.fold([moved(board, "a", Trigger.SUBMIT)])
    client.run_scheduled()
    client.feed._content = tell
    (frame,) = client.frames
    client.frames.clear()
    client.feed.acknowledge(frame["frame"])

    board.fold([moved(board, "b", Trigger.SUBMIT)])
    client.catch_up()

    assert ("unit", "b") in client.sees


def test_what_a_unit_waits_for_is_told_when_the_other_one_changes():
    board = Board()
    client = Client(board)
    client.open()
    board.fold([moved(board, "a", Trigger.SUBMIT)])
    client.catch_up()

    board.fold([moved(board, "b", Trigger.SUBMIT, after=["a"])])
    client.catch_up()
    assert client.sees["unit", "a"] == ["READY", [], ["b"]]
    board.fold([moved(board, "a", Trigger.START)])
    board.fold([moved(board, "a", Trigger.FINISH)])
    client.catch_up()

    assert client.sees["unit", "b"] == ["READY", [], []]
    assert client.sees == expected(client)


steps = st.lists(
    st.tuples(
        st.sampled_from(["commit", "apply", "run", "commit", "apply", "item", "event", "duplicate", "reopen", "lose"]),
        st.sampled_from("abc"),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps=steps, choice=st.randoms(use_true_random=False))
def test_f26_whatever_the_interleaving_a_client_at_rest_sees_the_board(steps, choice):
    board = Board()
    client = Client(board)
    client.open()
    for step, name in steps:
        if step == "commit":
            unit = board.units.get(name)
            status = unit.status if unit else Status.NEW
            triggers = sorted(trigger for source, trigger in MOVES if source is status)
            trigger = choice.choice(triggers)
            after = [one for one in board.units if one != name][:2]
            board.fold([moved(board, name, trigger, **({"after": after} if trigger is Trigger.SUBMIT else {}))])
        elif step == "item" and name in board.units:
            unit, seq = board.units[name], board.seq + 1
            change, number = ("resolved", unit.item) if unit.items else ("opened", seq)
            board.fold([
                AttentionChange(seq, number, name, change, "error", "error", f"t{seq}", "", {}, "", 0, "", "", utc(0))
            ])  # fmt: skip
        elif step == "event":
            board.fold([Event(board.seq + 1, None, None, "note", "info", "", {}, None, "", "", utc(0))])
        elif step == "run":
            client.run_scheduled()
        elif step == "apply" and client.frames:
            client.apply_one()
        elif step == "lose":
            client.scheduled.clear()
        elif step == "duplicate":
            client.feed.acknowledge(999)
        elif step == "reopen":
            client.frames.clear()
            client.picture.clear()
            client.open()

    client.catch_up()
    client.feed.wake()  # as the page's next ping does
    client.catch_up()
