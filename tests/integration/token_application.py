# SPDX-License-Identifier: GPL-3.0-or-later
"""The application beside token_encryption: a process of its own that changes tokens all the time and knows what it wrote last."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import multiprocessing
import os
import random
import time
import typing as t

import psycopg2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ROWS = 5000
# What the contract asks of the application is 1,500; it is paced a little above, so that it does not take both cores.
PACE = 2000


@dataclasses.dataclass
class Writes:
    """How many the application has committed; which text stands in which row, once it has ended; and how fast it was beside the work."""

    counter: t.Any
    last: dict[int, str] = dataclasses.field(default_factory=dict)
    rates: list[float] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return int(self.counter.value)

    @contextlib.contextmanager
    def measured(self) -> collections.abc.Iterator[None]:
        """Notes the writes per second while the body runs."""
        before, began = len(self), time.monotonic()
        yield
        self.rates.append((len(self) - before) / (time.monotonic() - began))


def write(*, url: str, both: bool, seed: int, key: bytes, counter: t.Any, stop: t.Any, answer: t.Any) -> None:  # noqa: ANN401 - multiprocessing's own types
    """Commits one random row after the other until *stop* is set; sends the last text of each row."""
    choose, cipher, last = random.Random(seed), AESGCM(key), dict[int, str]()
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SET synchronous_commit = off")
        if both:
            cursor.execute("PREPARE put AS UPDATE credentials SET token = $1, token_encrypted = $2, token_nonce = $3 WHERE id = $4")
        else:
            cursor.execute("PREPARE put AS UPDATE credentials SET token = $1 WHERE id = $2")
        began = time.monotonic()
        while not stop.is_set():
            number, text = choose.randint(1, ROWS), f"written-{seed}-{counter.value}"
            if both:
                nonce = os.urandom(12)
                cursor.execute("EXECUTE put (%s, %s, %s, %s)", (text, cipher.encrypt(nonce, text.encode(), None), nonce, number))
            else:
                cursor.execute("EXECUTE put (%s, %s)", (text, number))
            last[number] = text
            counter.value += 1
            ahead = counter.value / PACE - (time.monotonic() - began)
            if ahead > 0.005:
                time.sleep(ahead)
            elif ahead < -1:
                began = time.monotonic() - counter.value / PACE - 1
    answer.send(last)


@contextlib.contextmanager
def application(url: str, *, both: bool, seed: int, key: bytes) -> collections.abc.Iterator[Writes]:
    """Runs while the body does: changes random tokens of 5,000, *both* columns under *key* or the clear one alone."""
    context = multiprocessing.get_context("spawn")
    writes, stop = Writes(context.Value("L", 0, lock=False)), context.Event()
    receiver, sender = context.Pipe(duplex=False)
    given = {"url": url, "both": both, "seed": seed, "key": key, "counter": writes.counter, "stop": stop, "answer": sender}
    process = context.Process(target=write, kwargs=given, daemon=True)
    process.start()
    sender.close()
    try:
        until = time.monotonic() + 120
        while len(writes) < 50:
            assert process.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        yield writes
    finally:
        stop.set()
        with contextlib.suppress(EOFError):
            writes.last.update(receiver.recv())
        process.join()
    assert process.exitcode == 0
