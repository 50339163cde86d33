"""The same error of many units is one group: numbers, paths, ids, times and names don't tell errors apart."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_app.failures import KEPT, advice, fold, folded_sql, named_sql


@pytest.mark.parametrize(
    ("message", "folded"),
    [
        ("RUN failed (exit code 3)", "RUN failed (exit code #)"),
        ("RUN failed (exit code 1); retry 2 of 3 in 45 s", "RUN failed (exit code #); retry # of # in <duration>"),
        ("no sign of life for 1h 05m", "no sign of life for <duration>"),
        ("took 250ms, then 1.5 seconds", "took <duration>, then <duration>"),
        ("commit 4f2a9b1c7d is missing", "commit # is missing"),
        ("at 0x7ffe12, id 123e4567-e89b-12d3-a456-426614174000", "at #, id #"),
        ("can't open /var/lib/x-1.log: it isn't there", "can't open <path>: it isn't there"),
        ("in src/app/main.py:12", "in <path>:#"),
        ("C:\\Users\\ann\\x.txt is locked", "<path> is locked"),
        ("KeyError: 'price'", "KeyError: '…'"),
        ('no column "price"', 'no column "…"'),
        ("try `orch ls`", "try `…`"),
        ("2026-03-01T12:00:05.123Z down since 12:00:01", "<time> down since <time>"),
        ("GET https://example.org/a?b=1 said 503", "GET <url> said #"),
        ("127.0.0.1:8080 refused", "#:# refused"),
        ("\x1b[31mError:\x1b[0m\n  bad", "Error: bad"),
        ("input/output and client/server differ", "input/output and client/server differ"),
        ("", ""),
    ],
)
def test_what_differs_between_two_occurrences_is_folded(message: str, folded: str) -> None:
    assert fold(message) == folded


def test_the_name_of_the_unit_is_folded_where_it_stands_by_itself() -> None:
    assert fold("build-docs can't be built", "build-docs") == "<unit> can't be built"
    assert fold("in worktrees/u-7/src/a.py or /tmp/u-7/x", "u-7") == "in <path> or <path>"
    assert fold("the tests failed", "test") == "the tests failed"
    assert fold("agent:u-7: gone", "u-7") == fold("agent:other: gone", "other")


def test_a_folded_message_is_short_however_long_the_message() -> None:
    assert len(fold("no " * 100_000)) <= KEPT


@given(st.text())
def test_any_text_folds_to_something_that_has_no_number_left(text: str) -> None:
    folded = fold(text)

    assert not any(word.isascii() and word.isdigit() for word in folded.split())


#: Texts made of what the patterns look for, so that they meet each other.
PIECES = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.integers(-5, 10**9).map(str),
        st.sampled_from(
            [*"'\"`/\\:.,-_ \n\t#<>()[]~=\x1b\0", "/tmp/a b", "a/b.py", "0xfe", "12:30:01", "2026-01-02", "T10:11Z",
             "u-1", " 5 s", "1m 05s", "deadbeef1", "https://x.y/z", "C:\\a", "can't", "'x y'", "\x1b[1m", "é", "…", "٣",
             "µs"]
        ),
    )
).map("".join)  # fmt: skip
UNITS = st.one_of(st.none(), st.sampled_from(["u-1", "a", "test", "x.y", "12"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PIECES, UNITS), min_size=30, max_size=60))
def test_the_database_folds_as_python_does(rows: list[tuple[str, str | None]]) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE said (n INTEGER, message VARCHAR, unit VARCHAR)")
    connection.executemany("INSERT INTO said VALUES (?, ?, ?)", [(n, *row) for n, row in enumerate(rows)])

    named = f"SELECT n, {named_sql('message', 'unit')} AS named FROM said"
    answer = connection.execute(f"SELECT {folded_sql('named')} FROM ({named}) ORDER BY n").fetchall()
    connection.close()

    assert [folded for (folded,) in answer] == [fold(message, unit) for message, unit in rows]


@pytest.mark.parametrize(
    ("kind", "message", "says"),
    [
        ("fail", "RUN failed (exit code 1)", "retry"),
        ("fail", "agent-x: command not found", "settings"),
        ("fail", "RUN failed (it took too long)", "time limit"),
        ("fail", "verify failed on the merged tree", "verify command"),
        ("clash", "conflict with main in a.txt", "worktree"),
        ("said", "anything", "agent"),
    ],
)
def test_each_kind_of_error_says_what_to_do(kind: str, message: str, says: str) -> None:
    assert says in advice(kind, message)
