"""The names that operators go by. Standard library only: the command line knows them too."""

from __future__ import annotations

import getpass
import os
import re
from functools import cache
from typing import Any

OPERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def is_operator(name: Any) -> bool:
    """Whether it may stand behind `operator:` in the log."""
    return isinstance(name, str) and OPERATOR.fullmatch(name) is not None


@cache
def default_operator() -> str:
    """The name of the user who runs this process, or its number where it has none that may stand in the log."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = ""
    return name if is_operator(name) else str(os.getuid())
