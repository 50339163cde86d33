"""What an attempt inherits from the server."""

from __future__ import annotations

from orchestrator_app.executors import link


def test_agents_inherit_the_environment_but_neither_the_server_s_own_nor_that_of_another_repository(monkeypatch):
    for name in ("ORCH_PROJECT", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ann")

    inherited = link._environ()

    assert inherited["GIT_AUTHOR_NAME"] == "Ann"
    assert not {"ORCH_PROJECT", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"} & inherited.keys()
