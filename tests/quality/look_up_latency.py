"""How long `/api/customers/ID/propensities` takes, at a server that runs already.

    stream-scorer demo --web &
    python tests/quality/look_up_latency.py http://127.0.0.1:9110/ 1 100 2000 2500

Each client keeps one connection and asks for one customer after the other; unknown ones count as
errors. Nothing is asserted: it prints quantiles.

Usage: python tests/quality/look_up_latency.py URL [--clients N] [--seconds N] [--query QUERY] ID...
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import threading
import time
from urllib.parse import quote, urlsplit

import numpy as np


def ask(url: str, paths: list[str], until: float, took: list[float], errors: list[int]) -> None:
    """Ask for these in turn until then; what each took, in seconds."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    for path in itertools.cycle(paths):
        began = time.perf_counter()
        if began >= until:
            break
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - began)
        if answer.status != 200:
            errors.append(answer.status)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("ids", nargs="+", metavar="ID")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--query", default="", help="such as ?top_k=10")
    given = parser.parse_args()
    paths = [f"/api/customers/{quote(i, safe='')}/propensities{given.query}" for i in given.ids]
    warm: list[float] = []
    ask(given.url, paths, time.perf_counter() + 1.0, warm, [])  # the first opens the model
    took, errors = list[float](), list[int]()
    until = time.perf_counter() + given.seconds
    clients = [
        threading.Thread(target=ask, args=(given.url, paths, until, took, errors))
        for _ in range(given.clients)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    ms = 1000 * np.array(took)
    p50, p99, most = np.quantile(ms, 0.5), np.quantile(ms, 0.99), ms.max()
    rate = len(ms) / given.seconds
    print(
        f"{len(ms):,} look-ups by {given.clients} clients, {rate:,.0f} a second: p50 {p50:.1f} ms, "
        f"p99 {p99:.1f} ms, most {most:.1f} ms; the first {1000 * warm[0]:.0f} ms; "
        f"{len(errors)} refused"
    )


if __name__ == "__main__":
    main()
