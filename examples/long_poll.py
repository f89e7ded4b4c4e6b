"""Hand work over, go away, ask for the outcome later. No webhook: a long poll answers the moment the job ends."""

import os

from arriero import Client, WaitTimeout

URL = os.environ.get("ARRIERO_URL", "http://127.0.0.1:8000")
REQUEST = {"model": "llama3.2", "messages": [{"role": "user", "content": "Tell me about the Andes"}]}

with Client(URL) as client:
    # With a key it is safe to send again: it stays one job.
    job = client.enqueue("chat.completion", REQUEST, idempotency_key="report-42", metadata={"report": "42"})
    print("accepted as", job.status)
    # The id is all there is to remember; another program, on another day, may go on from here.
    job_id = job.id

with Client(URL) as client:
    try:
        job = client.wait(job_id, timeout=60)
        print(job.status, job.metadata, job.text)
    except WaitTimeout as late:
        print("not yet:", late.job.status, "at position", late.job.position)

# Output:
# accepted as queued
# succeeded {'report': '42'} Simulated answer from llama3.2 to "Tell me about the Andes". ...
