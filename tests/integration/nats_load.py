# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a NATS cluster under load: they publish to a stream with three replicas, and consume it, until standard input ends.

    nats_load.py nats://10.77.0.11:4222 nats://10.77.0.21:4222 nats://10.77.0.22:4222

There is one client for each server. A client follows the cluster's redirects: told that its server is a lame duck, it moves to
another one at once. A request is repeated, with the same message id, until it is answered; it has failed when that takes
longer than five seconds. Prints ``running`` once all clients work, and in the end one JSON object:

``published``, ``consumed``   so many messages were acknowledged by the stream; so many different ones were taken from it
``lost``                      acknowledged, and not in the stream in the end
``unread``                    acknowledged, and never consumed
``stored_twice``              in the stream more than once
``failed``                    the requests that failed, in words
``repeated``                  so many requests needed more than one attempt
``slowest``                   seconds that the slowest successful request took
``redirects``                 so many times a server asked a client to leave
``moves``                     so many times a client changed to another server
``versions``                  the servers' versions that clients were connected to
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

STREAM, READER = "load", "reader"
ANSWER_SECONDS = 1.0
"""How long an attempt may take before it is repeated."""
REQUEST_SECONDS = 5.0
"""How long a request may take with all its attempts."""
PAUSE_SECONDS = 0.05
TAKE = 20
"""So many messages are fetched at once."""


@dataclasses.dataclass
class Tally:
    """What the clients saw. Messages are known by their ids."""

    published: set[str] = dataclasses.field(default_factory=set)
    consumed: set[str] = dataclasses.field(default_factory=set)
    failed: list[str] = dataclasses.field(default_factory=list)
    versions: set[str] = dataclasses.field(default_factory=set)
    repeated: int = 0
    slowest: float = 0.0
    redirects: int = 0
    moves: int = 0


def version(client: Client) -> str:
    """Return the version of the server that a client is connected to."""
    found = client.connected_server_version
    return f"{found.major}.{found.minor}.{found.patch}"


async def connect(servers: list[str], tally: Tally) -> Client:
    """Return a client of the first server that answers; it goes to another one when that is a lame duck, or gone."""
    client = Client()

    async def redirected() -> None:
        tally.redirects += 1
        await client.force_reconnect()

    async def moved() -> None:
        tally.moves += 1
        tally.versions.add(version(client))

    async def ignore(_error: Exception) -> None:
        """Servers that are gone are no news; what matters is whether requests are answered."""

    await client.connect(
        servers=servers,
        dont_randomize=True,
        connect_timeout=1,
        reconnect_time_wait=0.1,
        max_reconnect_attempts=-1,
        ping_interval=2,
        max_outstanding_pings=2,
        lame_duck_mode_cb=redirected,
        reconnected_cb=moved,
        error_cb=ignore,
    )
    tally.versions.add(version(client))
    return client


async def insist(tally: Tally, what: str, attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Return what an attempt returns, made again until one succeeds; None, and one more failure, when none does in time."""
    began = time.monotonic()
    for number in itertools.count():
        try:
            answer = await attempt()
        except (NatsError, TimeoutError, OSError) as error:
            if time.monotonic() - began > REQUEST_SECONDS:
                tally.failed.append(f"{what}: {type(error).__name__} {error}")
                return None
            tally.repeated += number == 0
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            tally.slowest = max(tally.slowest, time.monotonic() - began)
            return answer
    raise AssertionError  # counting never ends


async def publish(stream: JetStreamContext, name: str, tally: Tally, stop: asyncio.Event) -> None:
    """Publish one message after the other."""
    number = 0
    while not stop.is_set():
        number += 1
        message = f"{name}-{number}"

        async def attempt(message: str = message) -> object:
            return await stream.publish(f"{STREAM}.{name}", message.encode(), timeout=ANSWER_SECONDS, headers={"Nats-Msg-Id": message})

        if await insist(tally, f"publish {message}", attempt):
            tally.published.add(message)
        await asyncio.sleep(PAUSE_SECONDS)


async def consume(stream: JetStreamContext, tally: Tally, stop: asyncio.Event) -> None:
    """Take messages, and acknowledge them, as long as others are published."""
    subscription = await stream.pull_subscribe_bind(READER, STREAM)
    while not stop.is_set():
        for message in await insist(tally, "fetch", lambda: subscription.fetch(TAKE, timeout=ANSWER_SECONDS)) or []:
            tally.consumed.add(message.data.decode())
            await message.ack()


async def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is true; return whether it became so."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        await asyncio.sleep(PAUSE_SECONDS)
    return true()


async def stored(stream: JetStreamContext) -> Counter[str]:
    """Return all messages of the stream, and how often each is in it."""
    total = (await stream.stream_info(STREAM)).state.messages
    subscription = await stream.pull_subscribe("", stream=STREAM, config=ConsumerConfig(ack_policy=AckPolicy.NONE))
    found: Counter[str] = Counter()
    while found.total() < total:
        found.update(message.data.decode() for message in await subscription.fetch(500, timeout=REQUEST_SECONDS))
    return found


async def load(servers: list[str]) -> dict[str, Any]:
    """Bring load on the servers until standard input ends; return what came of it."""
    tally, stop, stop_consuming = Tally(), asyncio.Event(), asyncio.Event()
    clients = [await connect(servers[number:] + servers[:number], tally) for number in range(len(servers))]
    streams = [client.jetstream() for client in clients]
    await streams[0].add_stream(name=STREAM, subjects=[f"{STREAM}.*"], num_replicas=3)
    await streams[0].add_consumer(STREAM, durable_name=READER, ack_policy=AckPolicy.EXPLICIT, num_replicas=3)
    publishing = [asyncio.create_task(publish(stream, str(number), tally, stop)) for number, stream in enumerate(streams)]
    consuming = [asyncio.create_task(consume(stream, tally, stop_consuming)) for stream in streams]
    await wait_until(lambda: len({message.split("-")[0] for message in tally.consumed}) == len(servers), 30)
    print("running", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await asyncio.gather(*publishing)
    failed = list(tally.failed)  # when nothing is published any more, a fetch has nothing to wait for
    await wait_until(lambda: tally.published <= tally.consumed, 20)
    stop_consuming.set()
    await asyncio.gather(*consuming)
    found = await stored(streams[0])
    await streams[0].delete_stream(STREAM)
    for client in clients:
        await client.close()
    return {
        "published": len(tally.published),
        "consumed": len(tally.consumed),
        "lost": sorted(tally.published - set(found)),
        "unread": sorted(tally.published - tally.consumed),
        "stored_twice": sorted(message for message, times in found.items() if times > 1),
        "failed": failed,
        "repeated": tally.repeated,
        "slowest": round(tally.slowest, 2),
        "redirects": tally.redirects,
        "moves": tally.moves,
        "versions": sorted(tally.versions),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(sys.argv[1:]))))
