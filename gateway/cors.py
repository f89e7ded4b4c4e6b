"""Which web pages of other origins may call the gateway (CORS, in the Fetch standard's words). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

ANY = "*"
EXPOSED = ", ".join(
    (
        *("x-request-id", "retry-after", "retry-after-ms", "x-cache"),
        *(f"x-arriero-{name}" for name in ("job-id", "model", "fallback", "attempts", "queue-ms")),
    )
)
"""Headers of an answer that a page may read, besides the few that every page may."""
PREFLIGHT_SECONDS = "600"


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """`origins` as browsers send them (`https://app.example:8443`), or `*`; none: pages of other origins stay out."""

    origins: Collection[str]
    credentials: bool = False

    def answer_headers(self, origin: str | None) -> Mapping[str, str]:
        """What an answer to a page of `origin` carries; nothing for a page that may not read it."""
        if not self.origins:
            return {}
        if origin is None or not (ANY in self.origins or origin in self.origins):
            return {"Vary": "Origin"}
        headers = {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}
        return {**headers, "Access-Control-Allow-Credentials": "true"} if self.credentials else headers

    def preflight_headers(self, request: Mapping[str, str]) -> Mapping[str, str] | None:
        """The answer to a page that asks beforehand whether it may send a request; None if it may not."""
        headers = self.answer_headers(request.get("Origin"))
        method = request.get("Access-Control-Request-Method")
        if method is None or "Access-Control-Allow-Origin" not in headers:
            return None
        wanted = request.get("Access-Control-Request-Headers", "")
        return {
            **headers,
            "Access-Control-Allow-Methods": method,
            "Access-Control-Max-Age": PREFLIGHT_SECONDS,
            **({"Access-Control-Allow-Headers": wanted} if wanted else {}),
        }
