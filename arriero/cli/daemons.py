"""The model manager and the system monitor, reached over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from arriero import calls
from arriero.cli.connection import service_url
from arriero.cli.failures import EXIT_UNAVAILABLE, CommandFailed
from arriero.settings import StackSettings

ANSWER_S = 30.0
LOOK_S = 3.0
"""For who looks at everything at once and would rather miss a part than wait."""


class Daemon:
    """One daemon's pages; use as a context manager. Calls raise ApiError, and CommandFailed when it does not answer."""

    def __init__(self, service: Literal["manager", "monitor"], given_url: str = "", answer_s: float = ANSWER_S) -> None:
        settings = StackSettings()
        self._service = service
        self._url = service_url(settings, service, given_url or getattr(settings, f"arriero_{service}_url"))
        key = settings.arriero_api_key.get_secret_value()
        self._http = httpx.Client(
            base_url=self._url,
            timeout=httpx.Timeout(answer_s, connect=min(5.0, answer_s)),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._json("GET", path, params=query)

    def text(self, path: str, **query: str) -> str:
        """A page for people."""
        return self._call("GET", path, params=query).text

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        return self._json("POST", path, json=dict(body))

    def delete(self, path: str) -> dict[str, Any]:
        return self._json("DELETE", path)

    def _json(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._call(method, path, **content).json()
        return answer

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise CommandFailed(
                f"the {self._service} does not answer at {self._url} ({exc or type(exc).__name__}): start it with "
                f"`make {self._service}` (or `make run`), or say where it is with ARRIERO_{self._service.upper()}_URL",
                EXIT_UNAVAILABLE,
            ) from exc
        if response.status_code >= 400:
            raise calls.api_error(response.status_code, response.headers, response.content)
        return response
