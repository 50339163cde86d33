"""Where a listener is in the log: whatever is committed, read, dropped and taken up again, nothing is told twice, out
of order, or not at all. No socket: the frames that would go over it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_app.api.listening import Must, Place, Wanted, wanted_of
from orchestrator_app.api.messages import AGENT, SOURCES, TOPICS, frame, frames_of, messages_of, row_of, tables_of
from orchestrator_app.api.socket_description import MEANINGS
from orchestrator_app.api.tail import Frames, piece_of
from orchestrator_app.errors import UsageError
from orchestrator_app.states import RULES, Status, Trigger
from orchestrator_app.store.records import TABLES, AttentionChange, Event, Record, Session, Transition, Usage, Verdict

AT = datetime(2026, 1, 31, 12)
UNITS = ("a", "b", "c")


def record(seq: int, kind: int, unit: str) -> Record:
    match kind:
        case 0:
            return Transition(
                *(seq, unit, 1, Status.READY, Trigger.START, Status.RUNNING, "RUN", 1, "scheduler", "c", None, {}, AT)
            )
        case 1:
            return Event(seq, unit, 1, "progress", "info", "", {"percent": seq, "text": "x" * 300}, 1, "agent", "c", AT)
        case 2:
            return AttentionChange(
                *(seq, seq, unit, "opened", "question", "info", "t", "", {}, "RUN", 1, "scheduler", "c", AT)
            )
        case 3:
            return Verdict(seq, unit, "z", "INDEPENDENT", "", "operator:t", "c", AT)
        case 4:
            return Usage(seq, unit, 1, "RUN", "m", 1, 1, 0.5, AT)
        case 5:
            return Session(seq, unit, 1, "RUN", "s", AT)
    return Event(seq, None, None, "dispatch", "info", "", {"paused": True}, None, "operator:t", "c", AT)


def messages_in(data: bytes) -> Iterator[dict[str, Any]]:
    """The messages of as many whole frames as there are."""
    while len(data) > 1:
        length, head = data[1], 2
        if length > 125:
            head = 4 if length == 126 else 10
            if len(data) < head:
                return
            (length,) = struct.unpack("!H" if head == 4 else "!Q", data[2:head])
        assert data[0] == 0x81
        if len(data) < head + length:
            return
        yield json.loads(data[head : head + length])
        data = data[head + length :]


class World:
    """A log, its tail, and one client that reads when it pleases."""

    def __init__(self, wanted: Wanted, behind: int, kept: int, since: int | None) -> None:
        self.log: list[Record] = []
        self.frames = Frames(0, behind, kept)
        self.wanted = wanted
        self.heard: list[dict[str, Any]] = []
        self.place = Place(wanted._replace(since=since), 0)

    def commit(self, kinds: list[tuple[int, str]], lost: bool) -> None:
        for kind, unit in kinds:
            self.log.append(record(len(self.log) + 1, kind, unit))
            if not lost:
                self.frames.add(self.log[-1])

    def read(self, page: int, keep: float) -> None:
        """One step of the client; `keep` below 1: the connection drops after that part of what is sent."""
        step = self.place.next(self.frames)
        if step is Must.WAIT:
            return
        if step is Must.READ and page % 2:  # what is near is fetched for everyone
            since = max(0, self.frames.floor - 4)
            self.frames.add_before({each.seq: piece_of(row_of(each)) for each in self.log[since : self.frames.floor]})
            step = self.place.next(self.frames)
        if step is Must.READ:
            head = self.frames.head
            rows = [row for each in self.log if self.place.cursor < (row := row_of(each))["seq"] <= head]
            rows = [row for row in rows if row["table"] in self.place.tables]
            rows = [row for row in rows if self.wanted.unit in (None, row["unit"])][:page]
            data = b"".join(self.place.batches(rows))
            self.place.cursor = rows[-1]["seq"] if len(rows) == page else head
        else:
            data = step
        got = list(messages_in(data[: int(len(data) * keep)]))
        self.heard += got
        if keep < 1 and got:
            self.come_back(got[-1])
        elif keep < 1 and data:
            self.come_back(self.heard[-1] if self.heard else None)

    def come_back(self, last: dict[str, Any] | None) -> None:
        since = 0 if last is None else last["to"] if last["type"] == "gap" else last["seq"]
        self.place = Place(self.wanted._replace(since=since), since)

    def told(self) -> list[int]:
        return [message["seq"] for message in self.heard if "table" in message.get("payload", ())]

    def gaps(self) -> set[int]:
        found = [range(each["from"], each["to"] + 1) for each in self.heard if each["type"] == "gap"]
        return {seq for one in found for seq in one}


topics = st.sets(st.sampled_from(TOPICS), min_size=1).map(frozenset)
commits = st.tuples(
    st.just("commit"), st.lists(st.tuples(st.integers(0, 6), st.sampled_from(UNITS)), max_size=12), st.booleans()
)
reads = st.tuples(st.just("read"), st.integers(1, 7), st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.3, 0.7]))


@settings(max_examples=300)
@given(
    st.lists(commits | reads, max_size=40),
    st.one_of(st.just(frozenset(TOPICS)), topics),
    st.sampled_from([None, "a"]),
    st.sampled_from([(1_000, 1 << 30), (10, 1 << 30), (1_000, 3_000)]),
    st.sampled_from([None, 0]),
)
def test_every_record_is_told_exactly_once_and_in_order_or_named_as_a_gap(
    steps: list[tuple[str, Any, Any]],
    chosen: frozenset[str],
    unit: str | None,
    room: tuple[int, int],
    since: int | None,
) -> None:
    world = World(Wanted(chosen, unit), *room, since)

    for what, first, second in steps:
        if what == "commit":
            world.commit(first, second and room[0] == 10)
        else:
            world.read(first, second)
    world.commit([(0, "a")], lost=False)
    for _ in range(10_000):
        if world.place.cursor == len(world.log):
            break
        world.read(5, 1.0)

    told, gaps = world.told(), world.gaps()
    whole = [row_of(each) for each in world.log]
    wanted = [row["seq"] for row in whole if unit in (None, row["unit"]) and next(messages_of(row)).topic in chosen]
    assert told == sorted(set(told))
    assert set(told) <= set(wanted)
    assert set(wanted) - set(told) <= gaps and not gaps & set(told)
    if room == (1_000, 1 << 30):
        assert not gaps


@given(st.integers(0, 6), st.sampled_from(UNITS))
def test_the_first_message_carries_the_record_and_all_of_them_come_from_the_tables_of_their_topic(
    kind: int, unit: str
) -> None:
    row = row_of(record(7, kind, unit))

    first, *others = messages_of(row)

    assert first.payload == row
    assert all("table" not in message.payload for message in others)
    for message in (first, *others):
        assert row["table"] in tables_of(frozenset([message.topic]))
    assert [json.loads(each[2:] if len(each) < 128 else each[4:])["seq"] for _, each in frames_of(row)] == [7] * (
        1 + len(others)
    )


def test_every_trigger_has_its_message() -> None:
    for rule in RULES:
        for source in rule.sources:
            row = row_of(record(1, 0, "a")) | {"from_status": source, "trigger": rule.trigger}
            assert next(messages_of(row)).type == f"unit:{rule.trigger}"


def test_the_page_of_the_api_tells_of_every_type_there_is() -> None:
    rows = [row_of(record(1, kind, "a")) for kind in range(7)]
    rows += [rows[1] | {"type": "test", "data": {"state": state}} for state in ("started", "passed")]
    rows += [rows[1] | {"type": "heartbeat"}, rows[1] | {"data": {"iteration": 1}}]
    rows += [rows[2] | {"change": change} for change in ("seen", "resolved")]
    rows += [rows[0] | {"from_status": Status.RUNNING, "to_status": Status.DONE}]

    said = {message.type: message.topic for row in rows for message in messages_of(row)}

    assert said.pop("unit:start") == MEANINGS["unit:TRIGGER"][0]
    assert said == {type: topic for type, (topic, _) in MEANINGS.items() if type != "unit:TRIGGER"}


@pytest.mark.parametrize("size", [0, 1, 100, 125, 126, 65_500, 65_600, 200_000])
def test_a_frame_is_what_rfc_6455_says_of_any_length(size: int) -> None:
    message = {"type": "x" * size}

    assert list(messages_in(frame(message))) == [message]


def test_numbers_that_json_has_no_word_for_become_text() -> None:
    (message,) = messages_in(frame({"type": "event", "payload": {"a": float("inf"), "b": [float("nan")], "at": AT}}))

    assert message["payload"] == {"a": "Infinity", "b": ["NaN"], "at": "2026-01-31T12:00:00.000000Z"}


def test_what_an_agent_says_of_itself_can_not_name_another_unit() -> None:
    event = Event(
        1, "a", 1, "progress", "info", "", {"unit": "b", "attempt": 9, "status": "DONE"}, 1, "agent:a", "c", AT
    )

    _, session, agent = messages_of(row_of(event))

    assert (session.payload["unit"], session.payload["attempt"]) == ("a", 1)
    assert (agent.payload["unit"], agent.payload["status"]) == ("a", "RUNNING")


def test_the_tail_keeps_so_many_records_and_bytes_and_one_in_any_case() -> None:
    few, small = Frames(0, behind=5), Frames(0, kept=1)

    for seq in range(1, 21):
        few.add(record(seq, 1, "a"))
        small.add(record(seq, 1, "a"))

    assert (few.floor, few.head, small.floor, small.head) == (15, 20, 19, 20)
    assert few.has_after(15) and not few.has_after(14)


def test_who_comes_back_to_a_server_that_was_started_again_is_told_all_and_of_no_gap() -> None:
    frames = Frames(50)
    place = Place(Wanted(since=3), 3)

    step = place.next(frames)

    assert step is Must.READ and place.cursor == 3


def test_older_records_are_taken_only_where_they_end_where_the_newer_ones_begin() -> None:
    frames = Frames(50)
    older = {seq: piece_of(row_of(record(seq, 1, "a"))) for seq in range(40, 51)}

    frames.add(record(51, 1, "a"))
    frames.add_before({seq: older[seq] for seq in range(40, 50)})
    assert frames.floor == 50
    frames.add_before(older)

    assert (frames.floor, frames.head) == (39, 51)


def test_no_topic_is_without_a_table_and_no_table_without_a_topic() -> None:
    assert set(SOURCES) == {*TOPICS, AGENT}
    assert set(tables_of(frozenset(TOPICS))) == set(TABLES.values())


@given(st.dictionaries(st.text(max_size=10), st.lists(st.text(max_size=30), max_size=2), max_size=3))
def test_no_address_is_more_than_wrong_usage(query: dict[str, list[str]]) -> None:
    try:
        wanted_of(query)
    except UsageError as error:
        assert len(str(error)) < 500
