"""Panel's own TLS options: the edge, the cookie and the command line go along."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from serve_kit import PANEL, Process
from test_sign_in import ORCH

# For localhost and 127.0.0.1, made for this test and trusted by nobody else.
KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4cqYCCw6iEEpIw1N
5W3/jan+/HdtlRmSTQPo2fl3BlahRANCAAT70W3v+uT8eSEX1AN3uYP8QTCp37ku
+LYjMMlVYbZDw/7Ooaf1cQXVKDPBTLk00wYtUzegN6aVoSbBdOUTZTOO
-----END PRIVATE KEY-----
"""
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUP3A3PIyQ0JUxg67rlK6/05yhHxQwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTE0MjY0MFoYDzIxMjYxMDI4
MTQyNjQwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAT70W3v+uT8eSEX1AN3uYP8QTCp37ku+LYjMMlVYbZDw/7Ooaf1cQXV
KDPBTLk00wYtUzegN6aVoSbBdOUTZTOOo28wbTAdBgNVHQ4EFgQUK9pJ6xE1yRpy
M8lOAp/F2Am0h+AwHwYDVR0jBBgwFoAUK9pJ6xE1yRpyM8lOAp/F2Am0h+AwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhAOGVe8+r8g8ZOd2KJqgktEz2o0053JPWkIZH5y81KyKAAiEA
8W8XqcDPApD8dAT7ubsWbefxucvHKA385oM6ZKPCEiw=
-----END CERTIFICATE-----
"""


def test_a_server_with_a_certificate_is_reached_by_https_and_its_cookie_by_nothing_else(
    root: Path, tmp_path: Path, start: Callable[..., Process]
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    key.write_text(KEY)
    certificate.write_text(CERTIFICATE)
    options = ("--port", "0", "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))

    process = start(root, *options, command=PANEL)
    info = process.info
    origin = info["url"]
    connection = http.client.HTTPSConnection(
        "127.0.0.1", info["port"], timeout=20, context=ssl.create_default_context(cafile=str(certificate))
    )
    token = (root / ".orchestrator" / "token").read_text().strip()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/login", urlencode({"token": token}), {**form, "Origin": origin})
    entered = connection.getresponse()
    entered.read()
    cookie = entered.headers["Set-Cookie"]
    ours = {"Cookie": cookie.partition(";")[0], "Content-Type": "application/json"}
    answers = []
    for other in (origin, origin.replace("https", "http")):
        connection.request("POST", "/api/v1/dispatch", json.dumps({"paused": True}), {**ours, "Origin": other})
        answer = connection.getresponse()
        answer.read()
        answers.append(answer.status)
    connection.close()

    assert origin.startswith("https://127.0.0.1:")
    assert entered.status == 303 and "Secure" in {part.strip() for part in cookie.split(";")}
    assert answers == [200, 403]
    trusting = {**os.environ, "SSL_CERT_FILE": str(certificate)}
    said = subprocess.run([*ORCH, str(root), "status", "--json"], capture_output=True, text=True, env=trusting)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["dispatch"] == "paused"
