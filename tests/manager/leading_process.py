"""A process that leads when it may, and says so in Redis every few milliseconds: what the leader test freezes.

    python -m tests.manager.leading_process redis://... name

`fenced` gets `<name>:<epoch>` through `Term.write`; `plain` gets it after a look at `Term.is_over` only.
"""

from __future__ import annotations

import asyncio
import sys

from redis.asyncio import Redis

from manager.leader import Leadership, LeasePolicy, Term
from shared.queue.keys import Keys

POLICY = LeasePolicy(lease_s=2.0, renew_s=0.2, margin_s=0.5)
FENCED, PLAIN = "test:fenced", "test:plain"


async def main(url: str, name: str) -> None:
    async with Redis.from_url(url) as redis:
        leadership = Leadership(redis, Keys("gw"), name=name, policy=POLICY)

        async def work(term: Term) -> None:
            while True:
                act = f"{name}:{term.epoch}"
                await term.write("RPUSH", FENCED, act)
                if not term.is_over:
                    await redis.rpush(PLAIN, act)
                await asyncio.sleep(0.005)

        await leadership.start()
        await leadership.lead(work)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
