"""Which files may be made into models: those below one folder that an operator has named."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.backends.ollama_import import Weights, read_weights
from shared.errors import BadRequest, Forbidden

REMEDY = "Set MODEL_IMPORT_DIR on the model managers' machine to allow imports."


class ImportFolder:
    """The folder MODEL_IMPORT_DIR; none when that is empty. A file is read once for several hosts that want it at a
    time."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._reading: dict[str, asyncio.Task[Weights]] = {}

    async def weights(self, file: str) -> Weights:
        """The file with its digest. Raises Forbidden where imports are off, BadRequest for what is no such file."""
        if not self._folder:
            raise Forbidden(f"This installation imports no files. {REMEDY}")
        if (reading := self._reading.get(file)) is None:
            reading = self._reading[file] = asyncio.create_task(asyncio.to_thread(self._read, file), name="weights")
            reading.add_done_callback(lambda done: self._ended(file, done))
        return await asyncio.shield(reading)

    def _ended(self, file: str, reading: asyncio.Task[Weights]) -> None:
        del self._reading[file]
        if not reading.cancelled():
            reading.exception()  # looked at here, because everyone who waited may have left

    def _read(self, file: str) -> Weights:
        # Resolved, so that neither `..` nor a link in the folder leads out of it.
        folder = Path(self._folder).resolve()
        path = (folder / file).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            raise BadRequest(f"There is no file {file!r} below MODEL_IMPORT_DIR.", param="file")
        try:
            return read_weights(path)
        except OSError as exc:
            raise BadRequest(f"{file!r} cannot be read: {exc.strerror}.", param="file") from exc
