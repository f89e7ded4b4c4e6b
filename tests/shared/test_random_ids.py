"""Ids from a page of random bytes."""

from __future__ import annotations

import os
import re

from shared.random_ids import PAGE_BYTES, RandomIds


def test_ids_have_their_length_and_do_not_repeat() -> None:
    draw = RandomIds("job_", 15)
    drawn = [draw() for _ in range(PAGE_BYTES)]
    assert len(set(drawn)) == len(drawn)
    assert all(re.fullmatch("job_[0-9A-Za-z]{15}", one) for one in drawn)
    assert len({letter for one in drawn for letter in one.removeprefix("job_")}) == 62


def test_a_forked_process_draws_its_own() -> None:
    draw = RandomIds("", 16)
    draw()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, draw().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 32).decode()
    os.close(reader)
    os.close(writer)
    assert theirs
    assert theirs not in [draw() for _ in range(PAGE_BYTES)]
