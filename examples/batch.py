"""Many jobs in one call; their answers as they end, whatever the order."""

import asyncio
import os

from arriero import AsyncClient

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")
CITIES = ("Cusco", "La Paz", "Quito", "Arequipa")


async def main() -> None:
    requests = [
        {"model": "llama3.2", "messages": [{"role": "user", "content": f"Tell me about {city}"}]} for city in CITIES
    ]
    async with AsyncClient(URL) as client:
        jobs = await client.enqueue_many("chat.completion", requests, priority="low")
        # What the queue had no room for comes back as refused, not as an exception: the others are accepted.
        waits = [client.wait(job.id) for job in jobs if job.status != "refused"]
        answered = []
        for ended in asyncio.as_completed(waits):
            job = await ended
            answered.append(job.text.split('"')[1] if job.succeeded else f"{job.id}: {job.status}")
        print(len(answered), "of", len(jobs), "answered")
        print(*sorted(answered), sep="\n")


asyncio.run(main())

# Output:
# 4 of 4 answered
# Tell me about Arequipa
# Tell me about Cusco
# Tell me about La Paz
# Tell me about Quito
