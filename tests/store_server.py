"""An S3-compatible server of its own (moto's), on loopback and a free port, with keys that are checked.

``Server.enforce`` makes it ask for keys as a real store does: each plant's user may touch its own bucket alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.running import free_port

SETUP = ("setup-key", "setup-secret")  # before anything is enforced, any key will do
QUIET_S = 60.0
PLAIN = {"Content-Type": "text/plain"}  # a form would be taken apart before moto reads it


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]

    def client(self, service: str = "s3", keys: tuple[str, str] = SETUP) -> Any:
        import boto3

        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
        )  # fmt: skip

    def bucket(self, name: str) -> str:
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def keys(self, bucket: str) -> dict[str, str]:
        """The variables of a user who may do anything in that bucket, and nothing elsewhere."""
        iam, user = self.client("iam"), f"user-of-{bucket}"
        iam.create_user(UserName=user)
        arns = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": arns}]}
        iam.put_user_policy(UserName=user, PolicyName="own", PolicyDocument=json.dumps(allowed))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        return self.variables(key["AccessKeyId"], key["SecretAccessKey"])

    def variables(self, key: str = SETUP[0], secret: str = SETUP[1]) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }  # fmt: skip

    def enforce(self) -> None:
        """From now on every request is checked."""
        asked = urllib.request.Request(f"{self.url}/moto-api/reset-auth", data=b"0", headers=PLAIN)
        urllib.request.urlopen(asked, timeout=10).close()

    def objects(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


@contextmanager
def running() -> Iterator[Server]:
    """A server that ends with the block."""
    port = free_port("127.0.0.1")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        env=kept | {"AWS_ACCESS_KEY_ID": SETUP[0], "AWS_SECRET_ACCESS_KEY": SETUP[1]},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        _wait(server)
        yield server
    finally:
        server.stop()


def _wait(server: Server) -> None:
    end = time.monotonic() + QUIET_S
    while True:
        try:
            urllib.request.urlopen(f"{server.url}/moto-api/", timeout=5).close()
            return
        except OSError:
            assert server.process.poll() is None, "moto's server ended at once"
            assert time.monotonic() < end, "moto's server does not answer"
            time.sleep(0.1)
