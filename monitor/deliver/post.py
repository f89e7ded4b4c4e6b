"""One JSON message to one address, tried again with growing pauses while the other side is away or says to wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.wait import wait_base

from shared import egress

TRIES = 6
PAUSES = wait_random_exponential(multiplier=1, max=60)
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429})


class DeliveryFailed(Exception):
    """The receiver did not take the message. `again`: it may take it later."""

    def __init__(self, reason: str, *, again: bool) -> None:
        self.again = again
        super().__init__(reason)


def new_session() -> aiohttp.ClientSession:
    """Connections to receivers. Where a name leads only the socket knows, so in airgap mode it is asked."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=egress.open_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def _is_worth_another(error: BaseException) -> bool:
    return isinstance(error, DeliveryFailed) and error.again


class Post:
    """Sends to addresses from the settings and nowhere else: redirects and proxies are not followed."""

    def __init__(self, session: aiohttp.ClientSession, timeout_s: float, *, pauses: wait_base = PAUSES) -> None:
        """`timeout_s`: limit on one try. `pauses`: what lies between tries."""
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._pauses = pauses

    async def send(self, url: str, body: bytes, headers: Callable[[], Mapping[str, str]] = dict) -> None:
        """`headers` are made for each try. Raises DeliveryFailed after the last one."""
        tries = AsyncRetrying(
            stop=stop_after_attempt(TRIES), wait=self._pauses, retry=retry_if_exception(_is_worth_another), reraise=True
        )
        await tries(self._once, url, body, headers)

    async def _once(self, url: str, body: bytes, headers: Callable[[], Mapping[str, str]]) -> None:
        # The address stays out of every text: Slack's is a secret.
        try:
            async with self._session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json", **headers()},
                allow_redirects=False,
                timeout=self._timeout,
            ) as answer:
                status = answer.status
        except TimeoutError as error:
            raise DeliveryFailed(f"no answer within {self._timeout.total:g} s", again=True) from error
        except aiohttp.ClientError as error:
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, egress.OutsideAirgap):
                raise DeliveryFailed(str(error.os_error.strerror), again=False) from None
            raise DeliveryFailed(type(error).__name__, again=True) from None
        if not 200 <= status < 300:
            raise DeliveryFailed(f"status {status}", again=status >= 500 or status in _WORTH_ANOTHER_TRY)
