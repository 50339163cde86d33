"""The OpenAPI document is true: what it allows is answered, what it forbids is refused, and nothing makes a 500."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from raw_client import Client

#: Not tried: what ends the server, hands out a link, or may take long.
LEFT_OUT = tuple(f"/api/v1/{path}" for path in ("stop", "login-code", "backup", "export", "feed", "query"))
#: A value that the document allows may still name what isn't there (400, 409, 412, 422), and If-Match has its own code.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 409, 412, 413, 422]
[checks.missing_required_header]
expected-statuses = [400, 428]
[checks.negative_data_rejection]
expected-statuses = ["4xx"]
[checks.unsupported_method]
enabled = true
"""


def test_the_server_does_what_its_description_says(client: Client, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
    left_out = [word for path in LEFT_OUT for word in ("--exclude-path", path)]
    url = f"http://127.0.0.1:{client.port}/api/v1/openapi.json"
    command = [program, "run", url, "-H", f"Authorization: Bearer {client.token}", "--no-color", "--max-examples", "8"]

    done = subprocess.run(
        [*command, "--phases", "examples,coverage,fuzzing", "--generation-deterministic", *left_out],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
