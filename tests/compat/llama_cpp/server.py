"""`python -m tests.compat.llama_cpp.server PORT KEY`: make the model in the current directory, and serve it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import xllamacpp

from tests.compat.llama_cpp import tiny_model

CONTEXT = 1024
"""Tokens, of all slots together."""
SLOTS = 2


def main() -> None:
    stop = {signal.SIGTERM, signal.SIGINT}
    # Before the server starts its threads, or one of them would get the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    port, key = sys.argv[1:]
    model = Path("tiny.gguf")
    tiny_model.write(model)
    options = xllamacpp.CommonParams()
    options.model.path = str(model)
    options.model_alias = {"tiny"}
    options.hostnames = ["127.0.0.1"]
    options.port = int(port)
    options.api_keys = [key]
    options.n_ctx = CONTEXT
    options.n_parallel = SLOTS
    options.cpuparams.n_threads = 1
    options.n_gpu_layers = 0
    options.embedding = True
    options.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    signal.sigwait(stop)


if __name__ == "__main__":
    main()
