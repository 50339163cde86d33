"""Globs that units declare: whether two of them can touch a common file."""

from __future__ import annotations

import fnmatch
import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator_app.errors import UsageError
from orchestrator_app.policy.conflicts import check_glob, globs_overlap, overlap

NAMES = ["a", "b", "aa", "ab", "ba", "bb"]
PATHS = ["/".join(names) for depth in (1, 2, 3, 4) for names in itertools.product(NAMES, repeat=depth)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("src/a.py", "src/a.py"),
        ("src", "src/deep/a.py"),
        ("src/", "src/a.py"),
        ("src/", "src"),
        ("src/**", "src"),
        ("src/*.py", "src/a?.py"),
        ("**/models.py", "app/core/models.py"),
        ("**/models.py", "models.py"),
        ("a/**/b", "a/b"),
        ("a/**", "a/b/c"),
        ("**", "anything/at/all"),
        ("[a-c]x", "[!a]x"),
        ("./src/a.py", "src//a.py"),
        ("[", "["),
        ("*ä*", "straße-ä.txt"),
    ],
)
def test_globs_that_share_a_path_overlap_both_ways(one: str, other: str) -> None:
    assert globs_overlap(one, other)
    assert globs_overlap(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("src/a.py", "src/b.py"),
        ("src", "srcs/a.py"),
        ("src/*.py", "src/deep/a.py"),
        ("src/*.py", "src/*.md"),
        ("a/**", "?"),
        ("[b]x", "[!b]x"),
        ("[z-a]", "*"),
        ("a?", "a"),
        ("A", "a"),
        ("a[/]b", "a/b"),
    ],
)
def test_globs_without_a_common_path_do_not_overlap(one: str, other: str) -> None:
    assert not globs_overlap(one, other)
    assert not globs_overlap(other, one)


segments = st.text(alphabet="ab*?", min_size=1, max_size=3) | st.sampled_from(["**", "[ab]", "[!a]", "[a-b]b", "a[b"])
ENDS = st.sampled_from(["", "/"])
globs = st.builds(lambda parts, end: "/".join(parts) + end, st.lists(segments, min_size=1, max_size=3), ENDS)


def paths_of(glob: str) -> set[str]:
    """The paths among PATHS that a glob matches, by its plain meaning, told with a regular expression."""
    names = [name for name in glob.split("/") if name]
    end = ""
    if glob.endswith("/") or names[-1] == "**":
        end = "(?:[^/]+/)+"
    elif not any(sign in names[-1] for sign in "*?["):
        end = "(?:[^/]+/)*"
    if names[-1] == "**":
        names.pop()
    pattern = ""
    for name in names:
        one = fnmatch.translate(re.sub(r"[*]+", "*", name)).removeprefix("(?s:").removesuffix(r")\Z")
        pattern += "(?:[^/]+/)*" if name == "**" else one.replace(".*", "[^/]*").replace(".", "[^/]") + "/"
    full = re.compile(pattern + end)
    return {path for path in PATHS if full.fullmatch(path + "/")}


@given(globs, globs)
@settings(max_examples=300, deadline=None)
def test_a_path_that_both_globs_match_is_always_found(one: str, other: str) -> None:
    shared = paths_of(one) & paths_of(other)

    assert globs_overlap(one, other) >= bool(shared), shared
    assert globs_overlap(one, other) == globs_overlap(other, one)


small = st.text(alphabet="ab*?", min_size=1, max_size=2) | st.sampled_from(["**", "[ab]", "[a]"])
small_globs = st.builds(lambda parts, end: "/".join(parts) + end, st.lists(small, min_size=1, max_size=2), ENDS)


@given(small_globs, small_globs)
@settings(max_examples=300, deadline=None)
def test_two_small_globs_overlap_only_if_a_short_path_matches_both(one: str, other: str) -> None:
    # two segments of two signs each: if they share a path, then one of at most four names of two letters
    assert globs_overlap(one, other) == bool(paths_of(one) & paths_of(other))


def test_hostile_globs_cost_no_more_than_their_lengths_multiplied() -> None:
    started = time.process_time()

    assert not globs_overlap("*a" * 150, "a*" * 149 + "b")
    assert not globs_overlap("**/a/" * 59 + "*.c", "**/b/" * 59 + "*.d")
    assert globs_overlap("**/*a*/" * 42, "**/*b*/" * 42)

    assert time.process_time() - started < 10


def test_overlap_names_each_pair_that_meets() -> None:
    pairs = overlap(["src/*.py", "docs"], ["docs/index.md", "src/a.py", "tests"])

    assert pairs == [("src/*.py", "src/a.py"), ("docs", "docs/index.md")]


@pytest.mark.parametrize("glob", ["", " ", "/etc/passwd", "../x", "a/../b", "..", "a\0b", "x" * 301])
def test_a_glob_that_can_name_no_file_of_the_repository_is_refused(glob: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_glob(glob)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("glob", ["src", "src/", "**/*.py", "a..b", "x" * 300, "-rf", "[a"])
def test_other_globs_pass_as_they_are(glob: str) -> None:
    assert check_glob(glob) == glob
