"""A login provider that speaks OAuth 2 on this machine: an authorization code for a token, a token for a name."""

from __future__ import annotations

import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit


class Provider(ThreadingHTTPServer):
    """Whoever is `user` now signs in without being asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # For a browser it is on another site than a server at 127.0.0.1.
        self.site = f"http://localhost:{self.server_port}"
        self.user = "ana@example.org"
        self.codes: dict[str, str] = {}
        self.tokens: dict[str, str] = {}

    def parameters(self) -> str:
        """What the server has to know, as Panel takes it."""
        urls = {"TOKEN_URL": f"{self.url}/token", "AUTHORIZE_URL": f"{self.site}/authorize"}
        return json.dumps({**urls, "USER_URL": f"{self.url}/user"})


class Answers(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        at = urlsplit(self.path)
        said = {name: values[0] for name, values in parse_qs(at.query).items()}
        if at.path == "/authorize":
            code = secrets.token_urlsafe(8)
            self.server.codes[code] = self.server.user
            self.send_response(302)
            self.send_header("Location", f"{said['redirect_uri']}?{urlencode({'code': code, 'state': said['state']})}")
            self.end_headers()
        else:
            token = self.headers["Authorization"].removeprefix("Bearer ")
            self._say(200, {"email": self.server.tokens[token]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        said = {name: values[0] for name, values in parse_qs(body).items()}
        user = self.server.codes.pop(said.get("code", ""), None)
        if user is None or said.get("client_secret") != "the provider's secret":
            self._say(400, {"error": "invalid_grant"})
            return
        token = secrets.token_urlsafe(8)
        self.server.tokens[token] = user
        self._say(200, {"access_token": token, "token_type": "bearer"})

    def _say(self, status: int, what: dict[str, str]) -> None:
        data = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass
