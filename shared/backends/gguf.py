"""Whether a file is a whole GGUF weights file, by its header: a model server may fall over one that is not.

Ollama 0.24 allocates what a header's lengths ask for, and its whole process ends when they are nonsense. Layout:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 1_000_000
"""Of metadata and of tensors; real files have some hundred."""
MOST_DIMENSIONS = 8
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by its type's number."""
ARCHITECTURE = b"general.architecture"


class NotGGUF(ValueError):
    """Says what is wrong with the file, in a few words."""


@dataclass(slots=True)
class _Reader:
    file: BinaryIO
    size: int

    def take(self, count: int) -> bytes:
        taken = self.file.read(count) if count <= self.left else b""
        if len(taken) != count:
            raise NotGGUF("it is broken off, or damaged")
        return taken

    def skip(self, count: int) -> None:
        if count > self.left:
            raise NotGGUF("it is broken off, or damaged")
        self.file.seek(count, 1)

    @property
    def left(self) -> int:
        return self.size - self.file.tell()

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def string(self) -> bytes:
        return self.take(self.u64())

    def value(self, kind: int) -> None:
        if kind == _STRING:
            self.skip(self.u64())
        elif kind in _SIZES:
            self.skip(_SIZES[kind])
        else:
            raise NotGGUF("it has values of an unknown type")

    def array(self) -> None:
        kind, count = self.u32(), self.u64()
        if kind in _SIZES:
            self.skip(_SIZES[kind] * count)
            return
        if count > self.left // 8:  # each string has a length of 8 bytes
            raise NotGGUF("it is broken off, or damaged")
        for _ in range(count):
            self.value(kind)


def check_gguf(file: BinaryIO, size: int) -> None:
    """Read the header of a file of `size` bytes from its start. Raises NotGGUF."""
    reader = _Reader(file, size)
    if file.read(len(MAGIC)) != MAGIC:
        raise NotGGUF("it does not begin with GGUF")
    if (version := reader.u32()) not in VERSIONS:
        raise NotGGUF(f"its version is {version}, not 2 or 3")
    tensors, entries = reader.u64(), reader.u64()
    if max(tensors, entries) > MOST_ENTRIES:
        raise NotGGUF("it is broken off, or damaged")
    names = set()
    for _ in range(entries):
        names.add(reader.string())
        kind = reader.u32()
        reader.array() if kind == _ARRAY else reader.value(kind)
    if ARCHITECTURE not in names:
        raise NotGGUF("it does not say what architecture it is for")
    offsets = [_tensor(reader) for _ in range(tensors)]
    if max(offsets, default=0) > reader.left:
        raise NotGGUF("it is broken off: weights are missing at its end")


def _tensor(reader: _Reader) -> int:
    """Where its weights begin, bytes after the header."""
    reader.string()
    dimensions = reader.u32()
    if dimensions > MOST_DIMENSIONS:
        raise NotGGUF("it is broken off, or damaged")
    reader.skip(8 * dimensions + 4)
    return reader.u64()
