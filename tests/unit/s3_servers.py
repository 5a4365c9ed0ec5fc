# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two S3 stores as processes of a test: moto's, with rules, versions, locks, conditions and policies, and `rclone serve s3` without.

Who imports this is skipped where moto is not installed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

boto3 = pytest.importorskip("boto3")
Config = pytest.importorskip("botocore.config").Config
pytest.importorskip("moto")

REGION = "us-east-1"
START_SECONDS = 30

POLICIES = {
    "writer": ["s3:PutObject"],
    "deleter": ["s3:PutObject", "s3:DeleteObject"],
    "getter": ["s3:PutObject", "s3:GetObject"],
    "reader": ["s3:GetObject", "s3:ListBucket"],
    "lister": ["s3:ListBucket", "s3:GetBucketVersioning"],
    "admin": ["s3:*"],
}
"""The rights of the store's users."""


class Key(NamedTuple):
    """Credentials, as boto3 and rclone take them."""

    access_key_id: str
    secret_access_key: str


class Server:
    """A store that runs, and the credentials of its users."""

    def __init__(self, endpoint: str, keys: Mapping[str, Key]) -> None:
        self.endpoint, self.keys = endpoint, keys
        self.client = client("s3", endpoint, keys["admin"])

    def bucket(self, name: str, *, versions: str = "", lock: bool = False) -> str:
        """Make a bucket, and return its name."""
        self.client.create_bucket(Bucket=name, **({"ObjectLockEnabledForBucket": True} if lock else {}))
        if versions:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": versions})
        return name

    def rules(self, bucket: str) -> list[dict[str, Any]]:
        """Return the rules of a bucket, as the store has them."""
        try:
            return list(self.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
                raise
            return []

    def set_rules(self, bucket: str, rules: Sequence[Mapping[str, Any]]) -> None:
        """Give a bucket these rules and no others, as its owner may."""
        self.client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)})

    def put(self, bucket: str, key: str, content: bytes = b"") -> None:
        """Write an object as the owner."""
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def content(self, bucket: str, key: str) -> bytes:
        """Return what an object holds."""
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())


def client(service: str, endpoint: str, key: Key) -> Any:
    """Return a client of boto3, which asks once."""
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    given = {"aws_access_key_id": key.access_key_id, "aws_secret_access_key": key.secret_access_key}
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, config=config, **given)


@contextmanager
def moto(directory: Path) -> Iterator[Server]:
    """Run moto's server, which knows the users of POLICIES and nobody else."""
    with _running([str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"], directory) as endpoint:
        anybody = Key("anybody", "anything")
        iam = client("iam", endpoint, anybody)
        keys = {}
        for name, actions in POLICIES.items():
            iam.create_user(UserName=name)
            policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
            iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=json.dumps(policy))
            made = iam.create_access_key(UserName=name)["AccessKey"]
            keys[name] = Key(made["AccessKeyId"], made["SecretAccessKey"])
        # From now on, each request is signed by one of them, or refused.
        request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}, method="POST")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        keys["stranger"] = Key("AKIASTRANGER", "wr0ng")
        keys["mistaken"] = Key(keys["admin"].access_key_id, "wr0ng")
        yield Server(endpoint, keys)


@contextmanager
def rclone(directory: Path) -> Iterator[Server]:
    """Run rclone as a store: one user, who may do everything."""
    key = Key("ADMIN", "not-a-secret")
    (directory / "buckets").mkdir()
    program = str(Path(sys.executable).with_name("rclone"))
    command = [program, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", ",".join(key), str(directory / "buckets")]
    with _running(command, directory) as endpoint:
        yield Server(endpoint, {"admin": key})


@contextmanager
def _running(command: Sequence[str], directory: Path) -> Iterator[str]:
    """Run a server, which says where it listens; give its endpoint."""
    log = directory / "server.log"
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield found[0]
    finally:
        process.kill()
        process.wait()
