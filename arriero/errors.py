"""What the client raises.

ArrieroClientError
|-- ApiError             the gateway answered with an error: status, code, param, retry_after_s
|-- GatewayUnreachable   no answer at all, or the connection broke and did not come back
|-- WaitTimeout          the job was not done in the time the caller gave; it goes on
`-- JobFailed            the job ended, but not well; carries the job
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arriero.models import Job


class ArrieroClientError(Exception):
    """Base of the tree."""


class ApiError(ArrieroClientError):
    """The gateway refused or failed a call. `retry_after_s` is None unless the gateway named a time."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        kind: str = "",
        param: str | None = None,
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.kind = kind
        self.param = param
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class GatewayUnreachable(ArrieroClientError):
    """No gateway answers at this address."""

    def __init__(self, base_url: str, reason: str) -> None:
        super().__init__(f"no gateway answers at {base_url} ({reason})")
        self.base_url = base_url
        self.reason = reason


class WaitTimeout(ArrieroClientError, TimeoutError):
    """The job had not ended when the time to wait was over. It keeps its place and goes on; wait again or cancel it."""

    def __init__(self, job: Job, waited_s: float) -> None:
        super().__init__(f"job {job.id} is still {job.status} after {waited_s:g} s")
        self.job = job


class JobFailed(ArrieroClientError):
    """The job ended without an answer: dead-lettered, cancelled or expired."""

    def __init__(self, job: Job) -> None:
        error = job.error
        super().__init__(f"job {job.id} {job.status}" + (f": {error.message}" if error else ""))
        self.job = job

    @property
    def code(self) -> str:
        return self.job.error.code if self.job.error else self.job.status
