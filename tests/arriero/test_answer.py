"""What stands on standard output when an answer starts over."""

from __future__ import annotations

import pytest

from arriero.cli.answer import Piece, PrintedAnswer


def printed(first: list[str], second: list[str]) -> list[Piece]:
    """What the second run prints, once the first was lost."""
    answer = PrintedAnswer()
    assert [answer.add(text) for text in first] == [Piece(text) for text in first]
    answer.restarted()
    return [piece for piece in (*map(answer.add, second), answer.finish()) if piece != Piece()]


@pytest.mark.parametrize(
    ("first", "second", "pieces"),
    [
        (["a b"], ["a ", "b c", " d"], [Piece(" c"), Piece(" d")]),
        (["a", " b"], ["a b", " c"], [Piece(" c")]),
        (["a b"], ["a b"], []),
        ([], ["a", "b"], [Piece("a"), Piece("b")]),
        (["a b"], ["a ", "x y", " z"], [Piece("a x y", anew=True), Piece(" z")]),
        (["a b"], ["a"], [Piece("a", anew=True)]),
    ],
    ids=["goes on", "goes on after a larger chunk", "is the same", "nothing was printed", "differs", "is shorter"],
)
def test_a_new_run_is_silent_while_it_repeats(first: list[str], second: list[str], pieces: list[Piece]) -> None:
    assert printed(first, second) == pieces


def test_a_run_may_be_lost_while_it_repeats() -> None:
    answer = PrintedAnswer()
    answer.add("a b c")
    for text in ("a", "a b"):
        answer.restarted()
        assert answer.add(text) == Piece()
    assert answer.add(" c d") == Piece(" d")
