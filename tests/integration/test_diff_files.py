"""What the changes of a branch are told as: a list of files, then one at a time, with numbers and colours."""

from __future__ import annotations

from pathlib import Path

import pytest
from workspace_kit import LINES, Repo, git

from orchestrator_app.dashboard import diff
from orchestrator_app.dashboard.diff import Changes, File, changed_files, file_changes
from orchestrator_app.workspace.worktrees import open_place


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


def changes_of(repo: Repo, unit: str = "one") -> Changes:
    return changed_files(open_place(repo.root), repo.main, repo.tip(unit))


def hunks_of(repo: Repo, changes: Changes, path: str) -> tuple[list, bool]:
    file = next(file for file in changes.files if file.path == path)
    return file_changes(open_place(repo.root), changes, file)


def words(line: list) -> str:
    return "".join(text for _, text in line[3])


def test_each_kind_of_change_is_told_with_its_counts(repo: Repo) -> None:
    tree = repo.unit("one")
    git(tree, "mv", "a.txt", "moved.txt")
    git(tree, "rm", "-q", "b.txt")
    (tree / "app" / "core.py").chmod(0o755)
    (tree / "picture.bin").write_bytes(bytes(range(256)))
    repo.work("one", {"new.py": "x = 1\n"})

    files = {file.path: file.view() for file in changes_of(repo).files}

    assert {path: file["status"] for path, file in files.items()} == {
        "app/core.py": "modified",
        "b.txt": "deleted",
        "moved.txt": "renamed",
        "new.py": "added",
        "picture.bin": "added",
    }
    assert files["moved.txt"]["old"] == "a.txt"
    assert files["app/core.py"]["mode"] == "100644 → 100755"
    assert files["picture.bin"]["added"] is None
    assert (files["b.txt"]["added"], files["b.txt"]["deleted"]) == (0, LINES.count("\n"))


def test_lines_have_their_numbers_in_the_old_and_the_new_file(repo: Repo) -> None:
    text = LINES.replace("line 3\n", "").replace("line 10\n", "line ten\nand more\n")
    repo.work("one", {"a.txt": text})

    hunks, cut = hunks_of(repo, changes_of(repo), "a.txt")
    told = [
        (sign, old, new, words([sign, old, new, tokens])) for hunk in hunks for sign, old, new, tokens in hunk["lines"]
    ]

    assert ("-", 3, None, "line 3") in told
    assert ("-", 10, None, "line 10") in told
    assert ("+", None, 9, "line ten") in told and ("+", None, 10, "and more") in told
    assert (" ", 11, 11, "line 11") in told
    assert not cut


def test_a_line_that_looks_like_a_header_of_a_patch_is_a_line(repo: Repo) -> None:
    odd = "@@ -1 +1 @@\n-- a/x\n++ b/x\ndiff --git a/x b/x\n"
    repo.work("one", {"odd.txt": odd})

    hunks, _ = hunks_of(repo, changes_of(repo), "odd.txt")

    assert [words(line) for line in hunks[0]["lines"]] == odd.splitlines()


def test_code_is_told_as_classes_and_texts_and_loses_no_letter(repo: Repo) -> None:
    code = 'def greet(name: str) -> str:\n    """Say <b>hello</b>."""\n\n    return f"hello {name}"  # <script>\n'
    repo.work("one", {"app/core.py": code})

    hunks, _ = hunks_of(repo, changes_of(repo), "app/core.py")
    added = [line for hunk in hunks for line in hunk["lines"] if line[0] == "+"]

    assert [words(line) for line in added] == code.splitlines()
    assert ["k", "def"] in added[0][3] and ["f", "greet"] in added[0][3]
    assert ["c", "# <script>"] in added[3][3]


def test_hostile_and_odd_file_names_do_no_harm_and_are_one_printable_line(repo: Repo) -> None:
    names = ["--output=pwned", ":(glob)x", "tab\tand\nbreak", "<img src=x>.py", "ünï.txt"]
    repo.work("one", {name: "x\n" for name in names})

    changes = changes_of(repo)

    assert {file.path for file in changes.files} == set(names)
    assert all(file.view()["path"].isprintable() for file in changes.files)
    for file in changes.files:
        assert words(file_changes(open_place(repo.root), changes, file)[0][0]["lines"][0]) == "x"
    assert not (repo.root / "pwned").exists()


def test_what_is_huge_is_cut_and_says_so(repo: Repo, monkeypatch) -> None:
    monkeypatch.setattr(diff, "FILE_LINES", 50)
    repo.work("one", {"many.txt": "x\n" * 100, "long.txt": "y" * 10_000 + "\n"})
    changes = changes_of(repo)

    many, cut = hunks_of(repo, changes, "many.txt")
    long, _ = hunks_of(repo, changes, "long.txt")

    assert cut and len(many[0]["lines"]) == 50
    assert words(long[0]["lines"][0]).endswith("8,000 more characters)")


def test_a_long_hunk_is_told_in_shares_that_lose_no_line(repo: Repo) -> None:
    repo.work("one", {"many.txt": "".join(f"{number}\n" for number in range(2_000))})
    hunks, _ = hunks_of(repo, changes_of(repo), "many.txt")

    shares = diff._shares(hunks)

    assert max(sum(len(hunk["lines"]) for hunk in share) for share in shares) <= diff.SHARE
    told = [words(line) for share in shares for hunk in share for line in hunk["lines"]]
    assert told == [str(number) for number in range(2_000)]
    assert [hunk["on"] for share in shares for hunk in share] == [False, True, True, True]


def test_bytes_that_are_no_text_are_shown_replaced(repo: Repo) -> None:
    tree = repo.unit("one")
    (tree / "latin.txt").write_bytes(b"caf\xe9\n")
    repo.worktrees.commit_all("one", "Work")

    hunks, _ = hunks_of(repo, changes_of(repo), "latin.txt")

    assert words(hunks[0]["lines"][0]) == "caf\ufffd"


def test_a_file_without_a_known_language_and_an_empty_one_are_plain() -> None:
    hunks, cut = diff.parsed("")
    diff._colour(hunks, "what.unknown")

    assert (hunks, cut) == ([], False)
    assert File("a\x1bb", None, "added", 0, 0, ("000000", "100644")).view()["path"] == "a\ufffdb"
