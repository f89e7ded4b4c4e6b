"""How much a request asks for: what can be known of its work before it runs. Pure."""

from __future__ import annotations

from msgspec import Struct

from shared.wire.canonical import ChatRequest, CompletionRequest, EmbeddingRequest


class Size(Struct, frozen=True):
    """`chars`: characters of the prompt, which cost nothing to count, as bytes would. `most_tokens`: the longest answer
    that the caller wants; None leaves it to the model.
    """

    chars: int = 0
    most_tokens: int | None = None


UNKNOWN = Size()


def size_of(request: object) -> Size:
    """The size of a canonical request; `UNKNOWN` for a job that is no inference."""
    match request:
        case ChatRequest():
            chars = 0
            for message in request.messages:  # plainly, since every chat comes by here
                chars += len(message.content) + len(message.thinking)
        case CompletionRequest():
            chars = len(request.prompt) + len(request.system) + len(request.suffix)
        case EmbeddingRequest():
            return Size(sum(map(len, request.inputs)))
        case _:
            return UNKNOWN
    sampling = request.sampling
    wanted = sampling.options.get("num_predict") if sampling.max_tokens is None else sampling.max_tokens
    # Ollama takes a negative number for "no limit".
    return Size(chars, wanted if isinstance(wanted, int) and wanted >= 0 else None)
