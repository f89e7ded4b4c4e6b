"""A server under the ACL file that we ship: whoever needs a right that it does not give fails here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from redis import Redis

from tests.house.redis_server import DATABASE, RedisServer
from tests.house.requirements import ROOT

ACL_FILE = ROOT / "infra" / "redis" / "users.acl"
USER, PASSWORD = "arriero", "correct horse"


@contextmanager
def guarded_redis() -> Iterator[tuple[RedisServer, Any]]:
    """The server, where `USER` may do what the file says, and its administrator's client."""
    digest = sha256(PASSWORD.encode()).hexdigest()
    with tempfile.TemporaryDirectory(prefix="arriero-acl-") as folder:
        users = Path(folder) / "users.acl"
        shipped = ACL_FILE.read_text()
        assert shipped.count("#" + "0" * 64) == 1, "the shipped file lets nobody in before a password is set"
        admin = f"user admin on #{digest} ~* &* +@all\n"
        # The server fixture asks without a password whether the server is there.
        probe = "user default on nopass -@all +ping +select\n"
        users.write_text(shipped.replace("user default off\n", probe).replace("0" * 64, digest) + admin)
        with (
            RedisServer(("--aclfile", str(users), "--enable-debug-command", "yes")) as server,
            Redis(port=server.port, db=DATABASE, username="admin", password=PASSWORD) as direct,
        ):
            yield server, direct


def refused(admin: Any) -> list[dict[str, Any]]:
    """What the server refused the user, but for one question that may go unanswered."""
    return [entry for entry in admin.acl_log() if entry["username"] == USER and entry["object"] != "config|get"]
