"""What the peers and yardsticks are called in tables and plots."""

from __future__ import annotations

TITLES = {
    "arriero": "Arriero",
    "arriero-aof": "Arriero, AOF",
    "arriero-unbatched": "Arriero, unbatched",
    "arriero-fifo": "Arriero, first come, first served",
    "arq": "arq tuned",
    "arq-stock": "arq stock",
    "saq": "SAQ",
    "taskiq": "taskiq (list)",
    "celery": "Celery",
    "bullmq": "BullMQ",
    "litellm": "LiteLLM",
    "portkey": "Portkey",
    "bare-proxy": "bare aiohttp proxy",
    "bare-parse": "aiohttp, parsing only",
    "bare-arq": "aiohttp and stock arq",
    "direct": "no gateway",
    "ollama": "no queue",
    "queued-100": "100 queued",
    "queued-10000": "10,000 queued",
    "queued-1000000": "1,000,000 queued",
    "httpx-asyncio": "httpx on asyncio",
    "httpx-uvloop": "httpx on uvloop",
    "aiohttp-asyncio": "aiohttp on asyncio",
    "aiohttp-uvloop": "aiohttp on uvloop",
}
