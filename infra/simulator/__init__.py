"""A stand-in for an Ollama server, for tests and for people without a GPU.

It speaks Ollama's native and OpenAI faces: load delays, one load at a time, slots, eviction, keep_alive, silence before
the first byte, one line per token at a steady rate, error bodies, pull progress. Its text says that it is simulated.
Faults are switched on by request or by an admin call, and a log tells what reached it. `python -m infra.simulator
--help` lists what can be set.

Not simulated: push (an honest 501), what a modelfile says besides its weights, /v1/responses, /v1/messages, audio,
checks of Host and Origin, and memory measured in bytes: what fits is a number of models.
"""

from infra.simulator.app import Simulator, listening, running
from infra.simulator.settings import SimulatorSettings

__all__ = ["Simulator", "SimulatorSettings", "listening", "running"]
