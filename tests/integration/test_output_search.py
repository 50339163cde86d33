"""Output of any size is read backwards and searched in both directions without ever being in memory whole."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator_app.dashboard.log import BEHIND, SHARE, LogView
from orchestrator_app.errors import NotFoundError
from orchestrator_app.executors.output import count_lines, decoded, read_back, read_piece
from orchestrator_app.executors.output_search import PIECE, SLICE, find, line_of, needle

PATH = ("one", "1", "output.log")
LARGE = 400 * 1024 * 1024


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "runs" / "one" / "1" / "output.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    return file


def runs(file: Path) -> Path:
    return file.parents[2]


def all_hits(file: Path, text: str, start: int, backwards: bool = False) -> list[int]:
    """Every hit from `start` on, as a caller collects them: call after call."""
    what, at, offsets = needle(text), start, []
    while True:
        found = find(runs(file), PATH, what, at, backwards, 1000)
        offsets += [offset for offset, _ in found.hits]
        if found.reached == at or found.reached in (0 if backwards else found.size,):
            return offsets
        at = found.reached


def sparse(file: Path, words: dict[int, bytes]) -> None:
    """A file of 400 MB that is empty but for these words, each on a line of its own."""
    with file.open("wb") as output:
        output.truncate(LARGE)
        for offset, word in words.items():
            output.seek(offset)
            output.write(b"\n" + word + b"\n")


# -- reading backwards


def test_a_log_is_read_backwards_in_whole_lines_that_join_to_what_it_is(log: Path) -> None:
    content = b"".join(b"line %d \xe2\x82\xac\n" % number for number in range(3_000)) + b"the last, unfinished"
    log.write_bytes(content)

    parts, before = [], None
    while before != 0:
        piece = read_back(runs(log), PATH, before, 1000)
        assert len(piece.data) <= 1000 and (piece.offset == 0 or content[piece.offset - 1 : piece.offset] == b"\n")
        parts.insert(0, piece.data)
        before = piece.offset

    assert b"".join(parts) == content


def test_a_line_longer_than_a_piece_is_read_backwards_in_parts_that_cut_no_character(log: Path) -> None:
    content = b"start\n" + "€".encode() * 5_000 + b"\nend\n"
    log.write_bytes(content)

    parts, before = [], None
    while before != 0:
        piece = read_back(runs(log), PATH, before, 1000)
        parts.insert(0, piece.data.decode("utf-8", "strict"))
        before = piece.offset

    assert "".join(parts).encode() == content


def test_lines_are_counted_between_any_two_bytes(log: Path) -> None:
    log.write_bytes(b"x\n" * PIECE)

    assert count_lines(runs(log), PATH, 0, 2 * PIECE) == PIECE
    assert count_lines(runs(log), PATH, 2, 6) == 2


def test_a12_a_link_in_the_place_of_a_log_is_neither_read_back_nor_searched(log: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token\n")
    log.unlink()
    log.symlink_to(secret)

    for read in (
        lambda: read_back(runs(log), PATH, None, 100),
        lambda: find(runs(log), PATH, needle("token"), 0),
        lambda: count_lines(runs(log), PATH, 0, 10),
    ):
        with pytest.raises(NotFoundError):
            read()
    log.unlink()
    assert find(runs(log), PATH, needle("token"), 0) is None


# -- searching


def test_the_hits_are_the_same_in_both_directions_across_every_border_of_pieces(log: Path) -> None:
    log.write_bytes(b"")
    places = [0, 77, PIECE - 3, 2 * PIECE - 1, SLICE - 2, SLICE + PIECE - 4, SLICE + 2 * PIECE]
    with log.open("r+b") as output:
        for place in places:
            output.seek(place)
            output.write(b"NeedLe")

    size = log.stat().st_size
    assert all_hits(log, "needle", 0) == places
    assert all_hits(log, "nEEDLE", size, backwards=True) == places[::-1]
    assert all_hits(log, "needle", 78)[0] == PIECE - 3
    assert all_hits(log, "needle", PIECE - 3, backwards=True)[0] == 77


def test_text_is_found_whatever_its_case_and_colours(log: Path) -> None:
    log.write_bytes("ok\n\x1b[1mER\x1b[31;1mr\x1b[0m\x1b[KoR: Él.\n31m é\n".encode())
    raw = log.read_bytes()

    assert all_hits(log, "error: éL.", 0) == [raw.index(b"ER")]
    assert all_hits(log, "É", 0) == [raw.index("É".encode()), raw.index("é".encode())]
    assert all_hits(log, "er.or", 0) == []
    what = needle("error")
    (offset, end) = find(runs(log), PATH, what, 0).hits[0]
    hit = line_of(runs(log), PATH, what, offset, end)
    assert (hit.line, hit.nth, hit.text) == (3, 0, "ERroR: Él.")


def test_a_hit_knows_which_of_its_line_it_is(log: Path) -> None:
    log.write_bytes(b"ab ab\nx ab ab ab\nab")
    what = needle("AB")

    hits = find(runs(log), PATH, what, 0, most=99).hits
    lines = [line_of(runs(log), PATH, what, *hit) for hit in hits]

    assert [(hit.line, hit.nth) for hit in lines] == [(0, 0), (0, 1), (6, 0), (6, 1), (6, 2), (17, 0)]
    assert lines[3].text == "x ab ab ab"


def test_one_look_gives_a_bounded_number_of_hits_and_says_where_to_go_on(log: Path) -> None:
    log.write_bytes(b"aaaa\n" * 100_000)

    found = find(runs(log), PATH, needle("aa"), 0, most=10)

    assert len(found.hits) == 10 and found.reached == found.hits[-1][1]
    assert len(all_hits(log, "aa", 0)) == 200_000


@pytest.mark.parametrize("text", ["", "a\nb", "x" * 201])
def test_what_can_not_be_on_a_line_is_not_searched_for(text: str) -> None:
    with pytest.raises(ValueError):
        needle(text)


def test_a13_a_file_of_400_mb_without_a_line_end_is_searched_in_bounded_memory(log: Path) -> None:
    sparse(log, {LARGE - 1000: b"far away"})
    tracemalloc.start()

    try:
        last = all_hits(log, "FAR away", 0)
        first = all_hits(log, "far away", LARGE, backwards=True)
        piece = read_back(runs(log), PATH, LARGE - 2000, SHARE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert last == first == [LARGE - 999]
    assert len(piece.data) == SHARE
    assert peak < LARGE / 100


# -- the view of a log


class Page:
    """A page as `LogView` knows it: what it was told, share by share, and an operator who has seen each."""

    def __init__(self, state: Path) -> None:
        self.session = SimpleNamespace(orchestrator=SimpleNamespace(project=SimpleNamespace(state=state)))
        self.told: list[dict[str, Any]] = []
        self.view: LogView
        self.acknowledges = True

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task:
        return asyncio.get_running_loop().create_task(coroutine)

    def tell(self, payload: dict[str, Any]) -> None:
        told = payload["log"]
        self.told.append(told)
        if told["what"] == "share" and self.acknowledges:
            self.say("log-ack", n=told["n"])

    def say(self, kind: str, **facts: Any) -> None:
        asyncio.get_running_loop().call_soon(self.view.hear, {"type": kind, **facts})

    def shares(self) -> list[dict[str, Any]]:
        return [told for told in self.told if told["what"] == "share"]

    def text(self) -> str:
        """What a browser would show."""
        text = ""
        for share in self.shares():
            text = {"anew": share["text"], "after": text + share["text"], "before": share["text"] + text}[
                share["place"]
            ]
        return text

    def states(self, what: str = "state") -> list[str]:
        return [told["state"] for told in self.told if told["what"] == what]

    async def until(self, condition: Callable[[], object]) -> Any:
        async with asyncio.timeout(30):
            while not (value := condition()):
                await asyncio.sleep(0.005)
            return value


def watch(log: Path, follow: Callable[[Page], Coroutine[Any, Any, None]], attempt: int = 1) -> Page:
    """Open a view of unit "one", and follow what it tells."""
    page = Page(log.parents[3])

    async def session() -> None:
        page.view = LogView(page, "one")
        page.view.attend(attempt)
        try:
            await follow(page)
        finally:
            page.view.close()

    asyncio.run(session())
    return page


def test_what_is_appended_is_told_in_order_and_once_with_no_character_cut(log: Path) -> None:
    content = "".join(f"line {number} €\n" for number in range(30))

    async def follow(page: Page) -> None:
        await page.until(lambda: "empty" in page.states())
        raw = content.encode()
        for start in range(0, len(raw), 11):
            with log.open("ab") as output:
                output.write(raw[start : start + 11])
            await asyncio.sleep(0)
        await page.until(lambda: page.text() == content)

    page = watch(log, follow)

    assert all(sum(share["lengths"]) == share["end"] - share["start"] for share in page.shares())


def test_one_share_is_on_its_way_at_a_time_and_what_can_not_be_kept_up_with_is_skipped(log: Path) -> None:
    log.write_bytes(b"first\n")

    async def follow(page: Page) -> None:
        page.acknowledges = False
        await page.until(page.shares)
        log.write_bytes(b"first\n" + b"0123456789\n" * (BEHIND // 8) + b"the end\n")
        page.say("log-ack", n=77)  # of no share that was told
        page.say("log-search", text="the end", id=1, direction="next", **{"from": 0})
        await page.until(lambda: "counted" in page.states("search"))
        assert len(page.shares()) == 1
        page.acknowledges = True
        page.say("log-ack", n=page.shares()[0]["n"])
        await page.until(lambda: page.text().endswith("the end\n"))

    page = watch(log, follow)

    assert len(page.shares()) == 2
    assert page.shares()[1]["place"] == "anew" and "skipped" in page.shares()[1]["note"]
    assert max(share["end"] - share["start"] for share in page.shares()) <= SHARE


def test_a_large_log_begins_at_its_end_and_older_shares_and_far_places_come_on_demand(log: Path) -> None:
    log.write_bytes(b"".join(b"line %06d\n" % number for number in range(100_000)))

    async def follow(page: Page) -> None:
        first = await page.until(page.shares)
        page.say("log-older", at=first[0]["start"])
        await page.until(lambda: len(page.shares()) == 2)
        page.say("log-at", at=50_000 * 12 + 3)
        await page.until(lambda: len(page.shares()) == 3)
        page.say("log-newer", at=page.shares()[2]["end"])
        await page.until(lambda: len(page.shares()) == 4)
        await page.until(lambda: sum(told["what"] == "line" for told in page.told) == 2)

    page = watch(log, follow)

    end, older, middle, newer = page.shares()
    assert end["text"].endswith("line 099999\n") and end["size"] == log.stat().st_size
    assert older["end"] == end["start"] and older["text"].startswith("line ")
    assert "line 050000" in middle["text"] and middle["place"] == "anew" and not middle["following"]
    assert newer["start"] == middle["end"]
    line = [told for told in page.told if told["what"] == "line"][-1]
    assert (line["at"], line["line"]) == (middle["start"], middle["start"] // 12 + 1)


def test_who_reads_older_lines_is_only_told_how_many_are_new_until_they_follow_again(log: Path) -> None:
    log.write_bytes(b"one\n")

    async def follow(page: Page) -> None:
        await page.until(page.shares)
        page.say("log-pause")
        await page.until(lambda: "paused" in page.states())
        with log.open("ab") as output:
            output.write(b"two\nthree\n")
        await page.until(lambda: page.told[-1].get("news") == 2)
        assert page.text() == "one\n"
        page.say("log-follow", **{"from": 4})
        await page.until(lambda: page.text() == "one\ntwo\nthree\n")

    watch(log, follow)


def test_a_new_attempt_is_followed_but_takes_nothing_away_from_who_reads_an_older_one(log: Path) -> None:
    log.write_bytes(b"first\n")
    for attempt in (2, 3):
        log.parents[1].joinpath(str(attempt)).mkdir()
        log.parents[1].joinpath(str(attempt), "output.log").write_bytes(b"of %d\n" % attempt)

    async def follow(page: Page) -> None:
        await page.until(page.shares)
        page.view.attend(2)
        await page.until(lambda: page.text() == "of 2\n")
        page.say("log-attempt", attempt=1)
        await page.until(lambda: page.text() == "first\n")
        page.view.attend(3)
        await page.until(lambda: page.told[-1].get("newest") == 3)
        assert page.told[-1]["attempt"] == 1 and page.text() == "first\n"
        page.say("log-attempt", attempt=3)
        await page.until(lambda: page.text() == "of 3\n")

    watch(log, follow)


def test_a_log_that_became_shorter_is_missing_or_is_a_link_is_said_and_no_end_of_it(log: Path, tmp_path: Path) -> None:
    log.write_bytes(b"a long first line\n")

    async def follow(page: Page) -> None:
        await page.until(page.shares)
        log.write_bytes(b"short\n")
        await page.until(lambda: page.text() == "short\n")
        log.unlink()
        await page.until(lambda: page.told[-1].get("state") == "missing")
        log.symlink_to(tmp_path / "elsewhere")
        await page.until(lambda: page.told[-1].get("state") == "unreadable")
        log.unlink()
        log.write_bytes(b"again\n")
        await page.until(lambda: page.text() == "again\n")

    watch(log, follow)


def test_a13_nuls_invalid_utf8_and_an_endless_line_are_told_in_bounded_shares(log: Path) -> None:
    log.write_bytes(b"\0\xff\xfe" * SHARE + b"\xe2\x82")

    async def follow(page: Page) -> None:
        await page.until(lambda: page.shares() and page.shares()[-1]["end"] == log.stat().st_size)
        page.say("log-older", at=page.shares()[0]["start"])
        await page.until(lambda: page.shares()[-1]["place"] == "before")

    page = watch(log, follow)

    assert all(len(share["text"]) <= SHARE and "\ufffd" in share["text"] for share in page.shares())


def test_a_search_tells_the_next_hit_then_their_number_around_the_end_and_in_both_directions(log: Path) -> None:
    log.write_bytes(b"an Error\nfine\nan error\n")

    async def follow(page: Page) -> None:
        async def ask(number: int, **facts: Any) -> dict[str, Any]:
            page.say("log-search", text="ERROR", id=number, **facts)
            await page.until(lambda: any(one.get("id") == number and one["state"] == "counted" for one in page.told))
            told = {}
            for one in page.told:
                told.update(one if one.get("id") == number else {})
            return told

        await page.until(page.shares)
        last = await ask(1, **{"from": 23, "direction": "previous"})
        around = await ask(2, **{"from": last["end"], "direction": "next"})
        before = await ask(3, **{"from": around["at"], "direction": "previous"})
        assert (last["at"], last["line"], last["place"], last["hits"]) == (17, 14, 2, 2)
        assert (around["at"], around["around"], around["place"]) == (3, True, 1)
        assert (before["at"], before["around"]) == (17, True)
        page.say("log-search", text="nowhere", id=4, direction="next", **{"from": 3})
        await page.until(lambda: page.states("search")[-1] == "nothing")

    watch(log, follow)


def test_a_long_search_says_how_far_it_is_and_can_be_cancelled_without_holding_up_the_log(log: Path) -> None:
    sparse(log, {})
    os.truncate(log, 4 * LARGE)

    async def follow(page: Page) -> None:
        await page.until(page.shares)
        page.say("log-search", text="nowhere", id=1, direction="next", **{"from": 0})
        progress = await page.until(lambda: [told for told in page.told if told.get("state") == "searching"])
        assert 0 < progress[0]["done"] < progress[0]["of"] == 4 * LARGE
        shares = len(page.shares())
        page.say("log-at", at=LARGE)
        await page.until(lambda: len(page.shares()) > shares)
        page.say("log-cancel")
        await page.until(lambda: page.states("search")[-1] == "cancelled")

    watch(log, follow)


@pytest.mark.parametrize("value", [None, -1, 2**60, 1.5, True, "7", [], {}])
def test_what_a_browser_may_not_ask_for_is_ignored(log: Path, value: Any) -> None:
    log.write_bytes(b"one\n")

    async def follow(page: Page) -> None:
        await page.until(page.shares)
        for kind in ("log-at", "log-older", "log-newer", "log-attempt", "log-search", "log-ack", "log-nonsense"):
            page.say(kind, at=value, attempt=value, n=value, text=value, **{"from": value})
        page.say("log-follow", **{"from": 4})
        with log.open("ab") as output:
            output.write(b"two\n")
        await page.until(lambda: page.text() == "one\ntwo\n")

    watch(log, follow)


def test_the_pieces_of_the_api_are_what_they_were(log: Path) -> None:
    log.write_bytes("ab€".encode() + b"\n")

    assert decoded(read_piece(runs(log), PATH, 0, None, 3)) == ("ab", 2)
    assert read_piece(runs(log), PATH, None, 1, 100).offset == 0
