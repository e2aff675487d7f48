"""A PostgreSQL of a test's own, on loopback."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
_SECONDS = 120.0


def missing() -> str:
    """What is not here of what `served` needs; "": nothing."""
    if not _BIN and shutil.which("initdb") is None:
        return "no PostgreSQL here (initdb)"
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "no psycopg2 here"
    return ""


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Inside, an empty database answers at this address, which SQLAlchemy takes."""
    folder = Path(tempfile.mkdtemp(prefix="rd-postgres-"))
    binaries = _BIN[-1].parent if _BIN else Path(shutil.which("initdb") or "").parent
    who: dict[str, Any] = {"cwd": folder, "env": os.environ | {"HOME": str(folder), "LC_ALL": "C.UTF-8"}}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = folder / "data", (folder / "log").open("w")
    process = None
    try:
        initdb = [binaries / "initdb", "-D", data, "-U", "raydistill", "--auth=trust", "--encoding=UTF8"]
        subprocess.run(initdb, check=True, stdout=log, stderr=log, **who)
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        command = [binaries / "postgres", "-D", data, *(text for each in settings for text in ("-c", each))]
        process = subprocess.Popen(command, stdout=log, stderr=log, **who)
        ends = time.monotonic() + _SECONDS
        while time.monotonic() < ends:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        yield f"postgresql+psycopg2://raydistill@127.0.0.1:{port}/postgres"
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)
