"""How the simulator's client talks: commands, and plain requests to the Stripe side. Standard library only."""

import base64
import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from .calls import TEST_KEY

_PAUSE_SECONDS = 0.005


class ControlRefused(Exception):
    """The simulator did not do a command; the text says why."""


@dataclass(frozen=True, slots=True)
class StripeAnswer:
    """An answer of the Stripe side, as it came over the wire. Names of `headers` are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Give the body, decoded."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The body's `error` object; KeyError if it has none."""
        error: dict[str, Any] = self.json()["error"]
        return error

    @property
    def replayed(self) -> bool:
        """Whether it is a stored answer."""
        return self.headers.get("idempotent-replayed") == "true"


class Connection:
    """Where a simulator is; one TCP connection per call."""

    def __init__(self, base_url: str, *, timeout_seconds: float = 10.0) -> None:
        self.base_url = base_url
        self._host = urlsplit(base_url).netloc
        self._timeout_seconds = timeout_seconds

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=self._timeout_seconds)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, content
        finally:
            connection.close()

    def command(self, method: str, command: str, **parameters: Any) -> dict[str, Any]:
        """Do a command (see `commands`); gives its answer. Raises ControlRefused."""
        path, body = f"/_sandbox/{command}", None
        if method == "POST":
            body = json.dumps(parameters).encode()
        elif parameters:
            path += "?" + urlencode(parameters)
        status, _, content = self._send(method, path, body, {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(content)
        if status != 200:
            raise ControlRefused(answer["error"])
        return answer

    def stripe(
        self,
        method: str,
        path: str,
        params: Mapping[str, object] | None = None,
        *,
        api_key: str | None = TEST_KEY,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> StripeAnswer:
        """Make one request to the Stripe side without an SDK.

        `params` are named as on the wire, with brackets: {"metadata[order]": "17", "created[gte]": 1}.
        Raises http.client.HTTPException or OSError when no whole answer comes.
        """
        sent = dict(headers or {})
        if api_key is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{api_key}:".encode()).decode()
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        encoded = urlencode(params or {})
        body = None
        if method == "GET" and encoded:
            path += "?" + encoded
        elif method != "GET":
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = encoded.encode()
        return StripeAnswer(*self._send(method, path, body, sent))

    def wait_until(self, happened: Callable[[], bool], what: str, *, within_seconds: float = 5.0) -> None:
        """Look until `happened`; raises TimeoutError that names `what`."""
        until = time.monotonic() + within_seconds
        while not happened():
            if time.monotonic() > until:
                raise TimeoutError(f"{what}: not within {within_seconds} s")
            time.sleep(_PAUSE_SECONDS)

    def log(self, name: str, since: int) -> list[dict[str, Any]]:
        """Give every entry of a log numbered above `since`, page by page."""
        entries: list[dict[str, Any]] = []
        while True:
            page = self.command("GET", name, since=since + len(entries))
            entries += page["entries"]
            if not page["entries"] or since + len(entries) >= page["last"]:
                return entries
