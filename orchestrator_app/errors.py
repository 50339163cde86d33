"""Every exception that this package raises on purpose.

A message is one line that says what happened, to what, and what to do next. `exit_code` is what the
command line exits with and `http_status` is what the API answers with, so both follow from the class.
"""

from __future__ import annotations


class OrchError(Exception):
    """Base of all; the request was refused or failed."""

    exit_code = 1
    http_status = 409


class UsageError(OrchError):
    """The words of a request are wrong: a bad name, an unknown key, a missing value."""

    exit_code = 2
    http_status = 400


class SettingsError(UsageError):
    """`orchestrator.toml` or a units file can't be used; the message names file, line and key."""


class ForbiddenError(OrchError):
    """Who asks may look and not change anything."""

    http_status = 403


class NotFoundError(OrchError):
    """No unit, attempt, attention item, workflow or file of that name."""

    http_status = 404


class IllegalMoveError(OrchError):
    """The state machine has no rule for this trigger in this status. Carries the unit's story."""

    def __init__(self, message: str, story: tuple = ()) -> None:
        super().__init__(message)
        self.story = story


class StaleVersionError(OrchError):
    """The unit has changed since the requester saw it."""

    http_status = 412


class KeyReusedError(OrchError):
    """A request came with the key of another one, which asked for something else."""

    http_status = 422


class NoServerError(OrchError):
    """No server runs for this project."""

    exit_code = 3
    http_status = 503


class AlreadyServedError(OrchError):
    """Another live process holds this project."""


class StoreError(OrchError):
    """The log could not be opened, read or written."""

    http_status = 503


class DamagedLogError(StoreError):
    """The log's files lack what was acknowledged, and no other file beside them makes up for it by itself."""


class LaterFormatError(StoreError):
    """A later version of this package has written the log."""


class GitError(OrchError):
    """A git command failed; the message carries its last line."""


class PassingError(GitError):
    """A piece of work on git failed for want of something that may come back (room, memory, a lock): try it again."""


class WorkspaceError(OrchError):
    """A worktree or a merge can't be made as asked."""


class ExecutorError(OrchError):
    """The supervisor can't be started or reached."""


class ReadOnlyModelError(OrchError):
    """Someone tried to set a value of the model; only the gate folds changes into it."""


class WatcherWriteError(OrchError):
    """A watcher tried to write. Watchers observe; queue a request from another thread instead."""
