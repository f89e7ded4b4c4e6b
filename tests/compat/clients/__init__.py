"""Clients that live in an environment of their own: one program each, run there as a module.

A program makes every check of its client and prints one line of JSON (`checks.py`). Beside its client it may import
nothing but the standard library and `checks`.
"""
