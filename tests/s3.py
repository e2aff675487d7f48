"""An S3-compatible store on loopback, in a process of its own."""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
BUCKET = "results"


@contextlib.contextmanager
def served(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """The query of `s3://` URLs to a new store with one bucket. What is in it is gone afterwards."""
    port = folder / "s3-port"
    with subprocess.Popen(
        [sys.executable, __file__, str(port), host], stderr=(folder / "s3.log").open("w")
    ) as process:
        try:
            while not port.exists():
                assert process.poll() is None, (folder / "s3.log").read_text()
                time.sleep(0.1)
            yield f"endpoint_override={host}:{port.read_text()}&scheme=http&region=us-east-1"
        finally:
            process.kill()


def _serve(port_file: Path, host: str) -> None:
    os.environ |= CREDENTIALS
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(host, 0)
    server.start()
    _, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(
        Bucket=BUCKET
    )
    port_file.with_suffix(".new").write_text(str(port))
    port_file.with_suffix(".new").rename(port_file)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
