"""What Ollama's failures mean: one table from (status, text) to Arriero's errors. Pure.

Ollama reports the caller's mistakes as 500 and broken runners as 400, so the status alone does not tell whom to
blame. The texts below change between versions; a text that no rule knows falls back on its status. Upstream text
reaches the caller only where it explains the caller's own mistake, and then without addresses and paths; for
operators the original text is attached to the error as a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.backends.ollama_failure import Failure, error_text, quotable, seconds, unnest
from shared.errors import (
    AnswerIncomplete,
    ArrieroError,
    BackendBusy,
    BackendError,
    BackendFault,
    BackendMisconfigured,
    BackendRejected,
    ModelFault,
    ModelLoading,
    ModelNotFound,
)

BUSY_RETRY_S = 1.0
MEMORY_RETRY_S = 30.0
START_RETRY_S = 30.0
MAX_NOTED = 500
MAX_NAME = 200

EMBED = "/api/embed"
PULL = "/api/pull"

Verdict = Callable[[Failure], ArrieroError]


def classify(status: int, body: str, *, endpoint: str, model: str = "", retry_after: str | None = None) -> ArrieroError:
    """The error for an answer of `status` with `body`, whatever that is. `retry_after` is the header's text."""
    return _judge(status, *error_text(body), endpoint, model, seconds(retry_after))


def classify_line(text: str, *, endpoint: str, model: str = "") -> ArrieroError:
    """The error for an `error` line inside an answer whose status said 200; such a line has lost its own status."""
    return _judge(500, text, True, endpoint, model, None)


def incomplete(tokens_seen: bool) -> AnswerIncomplete:
    """The error for a body that ended in good order, but without `done`; Ollama does so to stop a model that repeats
    itself."""
    seen = "stopped before it was complete" if tokens_seen else "was empty"
    return AnswerIncomplete(
        f"The model server's answer {seen}. The model may be repeating itself: try again, or change the prompt or the "
        "temperature."
    )


def is_cloud_model(model: str) -> bool:
    """Whether Ollama would send a request for this name to its cloud: the tag is `cloud` or ends in `-cloud`."""
    _, colon, tag = model.strip().lower().rpartition(":")
    tag = tag.strip()
    return bool(colon) and (tag == "cloud" or (tag.endswith("-cloud") and "/" not in tag))


def _judge(
    status: int, text: str, is_native: bool, endpoint: str, model: str, retry_after_s: float | None
) -> ArrieroError:
    inner_status, message, inner_type = unnest(status, text) if is_native else (status, text, "")
    failure = Failure(
        status=inner_status,
        text=message,
        is_native=is_native,
        endpoint=endpoint,
        model=model.strip()[:MAX_NAME],
        retry_after_s=retry_after_s,
    )
    error = _verdict(failure, inner_type)(failure)
    error.add_note(f"The model server answered {status} to {endpoint}: {text[:MAX_NOTED]}")
    return error


def _verdict(failure: Failure, inner_type: str) -> Verdict:
    if inner_type in BY_RUNNER_TYPE:
        return BY_RUNNER_TYPE[inner_type]
    if failure.endpoint == PULL and failure.is_native and failure.status >= 500:
        return next((verdict for known, verdict in PULL_TEXT if known.search(failure.text)), _pull_failed)
    if failure.is_native and (failure.status >= 500 or (failure.status == 400 and failure.endpoint == EMBED)):
        for pattern, verdict in BY_TEXT:
            if pattern.search(failure.text) and (failure.status >= 500 or verdict in _RUNNER_VERDICTS):
                return verdict
    if failure.status in BY_STATUS:
        return BY_STATUS[failure.status]
    if failure.status >= 500:
        return _fault
    # Below 400 is a redirect or another thing Ollama never says.
    return _rejected if failure.status >= 400 else _misconfigured


def _busy(failure: Failure) -> ArrieroError:
    wait_s = max(BUSY_RETRY_S, failure.retry_after_s or 0.0)
    return BackendBusy(f"The model server is at its limit. Try again in {wait_s:g} s.", retry_after_s=wait_s)


def _unavailable(failure: Failure) -> ArrieroError:
    # Ollama's own 503 is a full queue. One from something in between, without a time to come back, says that Ollama
    # is gone.
    return _busy(failure) if failure.is_native or failure.retry_after_s is not None else _fault(failure)


def _not_found(failure: Failure) -> ArrieroError:
    if not failure.is_native:
        return _misconfigured(failure)
    if not failure.model:
        return ModelNotFound("The request names no model. Put the name of an installed one.", param="model")
    return ModelNotFound(
        f"The model '{failure.model}' is not installed on the model server. Install it with "
        f"`ollama pull {failure.model}`.",
        param="model",
    )


def _unknown_pull(failure: Failure) -> ArrieroError:
    return ModelNotFound(
        f"The model registry does not know '{failure.model}'. Check the name and its tag.", param="model"
    )


def _pull_failed(failure: Failure) -> ArrieroError:
    # The base class: worth another try, yet the registry's or the network's fault and so no mark against the model
    # server.
    return BackendError(
        f"The model server could not download '{failure.model}'. Check its network and disk, then pull again; it "
        "resumes."
    )


def _incompatible(failure: Failure) -> ArrieroError:
    return BackendRejected(
        f"The model server cannot run '{failure.model}' in its version. Update the server, or the model with "
        f"`ollama pull {failure.model}`.",
        param="model",
    )


def _rejected(failure: Failure) -> ArrieroError:
    reason = quotable(failure) if failure.is_native else ""
    return BackendRejected(
        f"The model server refused the request: {reason}"
        if reason
        else "The model server refused the request as invalid."
    )


def _cannot(failure: Failure) -> ArrieroError:
    reason = quotable(failure) if failure.is_native else ""
    return BackendRejected(
        f"'{failure.model}' cannot do this" + (f": {reason}" if reason else ". Choose a model with that capability."),
        param="model",
    )


def _misconfigured(failure: Failure) -> ArrieroError:
    return BackendMisconfigured(
        f"The model server does not take this call (HTTP {failure.status}). An operator must check its base URL, its "
        "version and its access rules."
    )


def _cancelled(failure: Failure) -> ArrieroError:
    return BackendRejected("The call was cancelled at the model server.")


def _out_of_memory(failure: Failure) -> ArrieroError:
    return ModelFault(
        f"The model server has too little memory for '{failure.model}' now. Unload other models, use a smaller "
        "context or a smaller model.",
        retry_after_s=MEMORY_RETRY_S,
    )


def _slow_start(failure: Failure) -> ArrieroError:
    return ModelFault(
        f"'{failure.model}' did not finish loading in the model server's own time limit. Try again later; an operator "
        "can raise OLLAMA_LOAD_TIMEOUT.",
        retry_after_s=START_RETRY_S,
    )


def _runner_loading(failure: Failure) -> ArrieroError:
    return ModelLoading(f"'{failure.model}' is still loading. Try again shortly.", retry_after_s=BUSY_RETRY_S)


def _runner_gone(failure: Failure) -> ArrieroError:
    return ModelFault(
        f"The process that runs '{failure.model}' stopped. The next request starts it anew; if this goes on, see the "
        "model server's log."
    )


def _fault(failure: Failure) -> ArrieroError:
    return BackendFault(
        f"The model server reported an internal error (HTTP {failure.status}). Try again; if this goes on, see its log."
    )


BY_RUNNER_TYPE: dict[str, Verdict] = {
    "invalid_request_error": _rejected,
    "exceed_context_size_error": _rejected,
    "not_supported_error": _cannot,
    "unavailable_error": _runner_loading,
}
"""The runner's own word for its error, the surest sign where there is one."""

BY_TEXT: list[tuple[re.Pattern[str], Verdict]] = [
    (re.compile(pattern, re.IGNORECASE), verdict)
    for pattern, verdict in (
        # The caller's mistakes first: some of them arrive inside the text of a dying runner.
        (r'^option "[^"]*" must be of ', _rejected),
        (r"^invalid format:|^invalid JSON schema in format", _rejected),
        (r"only supports one image|failed to process inputs|^decode WebP image", _rejected),
        (r"^template: |^(parse|execute|error in) template|^llama-server template error", _rejected),
        (r"image input is not supported|does not support multimodal|vocabulary required for format", _cannot),
        (r"may be incompatible|unsupported model (format|architecture)", _incompatible),
        # A failed load before a dead runner, which its text often mentions too.
        (
            r"out of memory|out-of-memory|failed to allocate|cudaMalloc failed|requires more system memory"
            r"|memory layout cannot be allocated|failed to commit memory",
            _out_of_memory,
        ),
        (r"timed out waiting for (llama-server|llama runner) to start", _slow_start),
        (
            r"process has terminated|has unexpectedly stopped|no longer running|error was encountered while running"
            r"|do embedding request|unexpected EOF|\bEOF$|connection (refused|reset)|error starting "
            r"|model failed to load|unexpected server status|server not responding|error reading \S+ response"
            r"|binary not found",
            _runner_gone,
        ),
    )
]
"""Read from the top for a 5xx or an error line; for a 400 of the embed call only the runner's failures count."""

PULL_TEXT: list[tuple[re.Pattern[str], Verdict]] = [
    (re.compile("file does not exist"), _unknown_pull),
    (re.compile("requires a newer version of Ollama"), _incompatible),
]
"""For the pull call, in place of `BY_TEXT`; every other text is a failed download."""

_RUNNER_VERDICTS = frozenset({_out_of_memory, _slow_start, _runner_gone})

BY_STATUS: dict[int, Verdict] = {
    400: _rejected,
    401: _misconfigured,
    403: _misconfigured,
    404: _not_found,
    405: _misconfigured,
    429: _busy,
    499: _cancelled,
    501: _cannot,
    503: _unavailable,
}
