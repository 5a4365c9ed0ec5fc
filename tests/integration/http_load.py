# Copyright (c) 2026 hearth.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP clients that honour readiness, on simulated Kontinuum nodes: they write and read keys until standard input ends.

    http_load.py http://10.77.0.21:9100 http://10.77.0.22:9100 http://10.77.0.31:9100

Every node is asked for its readiness each 100 ms, and requests go to nodes alone that have said within the last 500 ms that
they are ready. A request is made once: whatever is not answered as it should be has failed. Only the standard library is
needed, so that this can run on a host of the fleet. Prints ``running``, and in the end one JSON object:

``answered``   requests by node that were answered well
``failed``     the requests that failed, in words
``slowest``    seconds that the slowest answer took
``unready``    seconds by node in which it was not ready
``none_ready`` so many times no node was ready, and a client had nowhere to go
"""

from __future__ import annotations

import http.client
import itertools
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter

ASK_EVERY_SECONDS = 0.1
FRESH_SECONDS = 0.5
ANSWER_SECONDS = 5.0
PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
CLIENTS = 6
TROUBLE = (OSError, http.client.HTTPException)  # urllib's errors are OSErrors


def answer(url: str, body: bytes | None = None, timeout: float = ANSWER_SECONDS) -> bytes:
    """Return the body of a good answer to a GET, or to a PUT of a body. Raises what is in TROUBLE."""
    request = urllib.request.Request(url, data=body, method="GET" if body is None else "PUT")
    with urllib.request.urlopen(request, timeout=timeout) as response:
        found: bytes = response.read()
        return found


class Nodes:
    """Which nodes are ready, by their own word."""

    def __init__(self, urls: list[str], stop: threading.Event) -> None:
        self._stop = stop
        self._ready_at = dict.fromkeys(urls, float("-inf"))
        self.unready = dict.fromkeys(urls, 0.0)
        self.threads = [threading.Thread(target=self._watch, args=(url,), daemon=True) for url in urls]

    def ready(self) -> list[str]:
        """Return the nodes to use now."""
        oldest = time.monotonic() - FRESH_SECONDS
        return [url for url, at in self._ready_at.items() if at > oldest]

    def _watch(self, url: str) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                answer(f"{url}/readyz", timeout=FRESH_SECONDS)
                self._ready_at[url] = began  # what it says was true when it was asked, and perhaps no longer
                ready = True
            except TROUBLE:
                self._ready_at[url] = float("-inf")
                ready = False
            time.sleep(max(0.0, began + ASK_EVERY_SECONDS - time.monotonic()))
            self.unready[url] += 0.0 if ready else time.monotonic() - began


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self.slowest = 0.0
        self.none_ready = 0

    def note(self, node: str, problem: str, seconds: float) -> None:
        """Count one request."""
        with self._lock:
            self.slowest = max(self.slowest, seconds)
            if problem:
                self.failed.append(f"{problem}, after {seconds:.2f} s, at {time.time():.3f}")
            else:
                self.answered[node] += 1


def work(name: str, nodes: Nodes, tally: Tally, stop: threading.Event) -> None:
    """Count up in a key of one's own on every node: each must always have what it acknowledged last."""
    acknowledged: dict[str, bytes] = {}
    for number in itertools.count():
        if stop.wait(PAUSE_SECONDS):
            return
        ready = nodes.ready()
        if not ready:
            tally.none_ready += 1
            continue
        node = ready[number % len(ready)]
        key = f"{node}/kv/load-{name}"
        writes = node not in acknowledged or number % 2 == 0
        began, problem = time.monotonic(), ""
        try:
            if writes:
                answer(key, str(number).encode())
                acknowledged[node] = str(number).encode()
            elif (found := answer(key)) != acknowledged[node]:
                problem = f"GET {key}: {found!r}, and not {acknowledged[node]!r}"
        except TROUBLE as error:
            problem = f"{'PUT' if writes else 'GET'} {key}: {type(error).__name__} {error}"
        tally.note(node, problem, time.monotonic() - began)


def load(urls: list[str]) -> dict[str, object]:
    """Bring load on the nodes until standard input ends; return what came of it."""
    stop, tally = threading.Event(), Tally()
    nodes = Nodes(urls, stop)
    clients = [threading.Thread(target=work, args=(str(number), nodes, tally, stop)) for number in range(CLIENTS)]
    for watcher in nodes.threads:
        watcher.start()
    patience = time.monotonic() + PATIENCE_SECONDS
    while missing := sorted(set(urls) - set(nodes.ready())):
        if time.monotonic() > patience:
            raise SystemExit(f"not ready: {', '.join(missing)}")
        time.sleep(PAUSE_SECONDS)
    for client in clients:
        client.start()
    print("running", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in (*clients, *nodes.threads):
        thread.join()
    return {
        "answered": dict(tally.answered),
        "failed": tally.failed,
        "slowest": round(tally.slowest, 2),
        "unready": {url: round(seconds, 1) for url, seconds in nodes.unready.items()},
        "none_ready": tally.none_ready,
    }


if __name__ == "__main__":
    print(json.dumps(load(sys.argv[1:])))
