"""A server of S3 (moto) or of Google Cloud Storage (gcp-storage-emulator), in a process of its own:
`python object_servers.py s3` prints its port and serves until its standard input ends.

Not in the process that asks it: some calls of pyarrow wait for an answer with the GIL held.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving(kind: str) -> Iterator[int]:
    """The port on 127.0.0.1 of a new, empty server."""
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, kind],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        # Servers may say something of their own before.
        yield next(int(line) for line in server.stdout if line.strip().isdigit())
    finally:
        server.stdin.close()
        server.wait(30)
        server.stdout.close()


def _s3() -> int:
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - of this process alone

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    return int(server.get_host_and_port()[1])


def _gs() -> int:
    from gcp_storage_emulator.server import create_server  # noqa: PLC0415 - as above

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="shop")
    server.start()
    return int(server._api._httpd.server_address[1])


if __name__ == "__main__":
    logging.disable()
    print({"s3": _s3, "gs": _gs}[sys.argv[1]](), flush=True)
    sys.stdin.read()
    # Threads of the servers would outlive it.
    import os

    os._exit(0)
