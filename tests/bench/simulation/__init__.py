"""A discrete-event simulation of the scheduling: the real policy (`worker.scheduling.policy`), hosts that load models.

`python -m tests.bench.simulation` runs all of it and writes `docs/results/scheduling.md`.
"""
