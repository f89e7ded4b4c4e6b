"""arq as it is when nothing is set: it looks for jobs twice a second, pickles them and runs ten at once, no uvloop.

Runs in the environment of `arq_tuned`: `python -m tests.bench.queues.arq_stock`, see `protocol.md`.
"""

from __future__ import annotations

import asyncio

from tests.bench.queues.arq_tuned import ArqQueue, Settings
from tests.bench.queues.command_line import parse, run

STOCK = Settings(result_poll_s=0.5)

if __name__ == "__main__":
    asyncio.run(run(ArqQueue(STOCK), parse()))
