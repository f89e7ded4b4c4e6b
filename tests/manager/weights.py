"""A GGUF file as small as it can be: what a model server accepts, with one tensor and no sense."""

from __future__ import annotations

import struct


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(weights: int = 256, *, architecture: str = "llama") -> bytes:
    """A whole file with so many weights of 4 bytes, all 0."""
    numbers = {"general.file_type": 0, "llama.context_length": 64, "llama.embedding_length": 32, "llama.block_count": 1}
    entries = [_string(name) + struct.pack("<II", 4, value) for name, value in numbers.items()]
    entries.append(_string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + _string("a") + _string("b"))
    entries.append(_string("tokenizer.ggml.scores") + struct.pack("<IIQff", 9, 6, 2, 0.0, 1.0))
    if architecture:
        entries.append(_string("general.architecture") + struct.pack("<I", 8) + _string(architecture))
    tensor = _string("token_embd.weight") + struct.pack("<IQIQ", 1, weights, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries) + tensor
    return head + bytes(-len(head) % 32) + bytes(4 * weights)
