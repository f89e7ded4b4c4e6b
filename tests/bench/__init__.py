"""Measures Arriero side by side with its peers on this machine: `python -m tests.bench`."""
