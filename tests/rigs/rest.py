"""Owns a plain way to ask a running collector over HTTP, for tests that tell a story in requests.

It does not know what is asked for.
"""

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

OPENMETER = "/api/v3/openmeter"
BILLING = "/api/v1/billing"


@dataclass(frozen=True)
class Answer:
    """Status and body of an answer."""

    status: int
    body: Any


class Rest:
    """A collector and a key of it."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address
        self.key = key

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """One request; a path without a leading slash is below OpenMeter's prefix."""
        status, _, content = self._send(method, path, body)
        return Answer(status, json.loads(content) if content else None)

    def file(self, path: str) -> tuple[str, bytes]:
        """The content type and the bytes of what is there."""
        status, type_, content = self._send("GET", path)
        assert status == 200, content
        return type_, content

    def _send(self, method: str, path: str, body: Any = None) -> tuple[int, str, bytes]:
        url = urlsplit(self.address)
        connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=60)
        try:
            connection.request(
                method,
                quote(path if path.startswith("/") else f"{OPENMETER}/{path}", safe="/?&=[]:%"),
                None if body is None else json.dumps(body),
                {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The body of what is there."""
        return self._done(self.ask("GET", path), 200)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        """The body of what was done; 201 where something was made."""
        return self._done(self.ask("POST", path, body), status)

    @staticmethod
    def _done(answer: Answer, status: int) -> Any:
        assert answer.status == status, answer.body
        return answer.body
