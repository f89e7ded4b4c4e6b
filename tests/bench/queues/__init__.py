"""One program per queue, all with the same commands and the same JSON answers: see `protocol.md` beside this file."""
