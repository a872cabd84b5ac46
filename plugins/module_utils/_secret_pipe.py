# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret for a module that runs asynchronously: its options lie in a file while it runs, what comes through a named pipe never does.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
import typing as t
from pathlib import Path

from ._errors import LastroError, Text
from ._files import writing

LIMIT = 64 * 1024
"""Bytes that a pipe holds without a reader, and no secret needs."""
TAKE_SECONDS = 60.0
"""How long the writer of a pipe may take."""
_LOOK_SECONDS = 0.02


def make(path: Path) -> None:
    """An empty pipe, 0600; one that a dead run left is replaced. Raises LastroError."""
    with writing(path):
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)


def give(path: Path, secret: str, *, timeout: float, clock: t.Callable[[], float] = time.monotonic, sleep: t.Callable[[float], None] = time.sleep) -> bool:
    """Write *secret* once somebody reads, and remove the pipe; false where nobody did within *timeout* seconds, whose own result says why."""
    until = clock() + timeout
    try:
        while True:
            with contextlib.suppress(OSError), os.fdopen(_opened(path), "wb") as pipe:
                pipe.write(secret.encode())
                return True
            if clock() >= until:
                return False
            sleep(_LOOK_SECONDS)
    finally:
        path.unlink(missing_ok=True)


def _opened(path: Path) -> int:
    """Raises OSError (ENXIO) while nobody reads."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)


def take(path: Path, *, timeout: float = TAKE_SECONDS) -> str:
    """What was written into the pipe. Raises LastroError where nobody has within *timeout* seconds."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _nothing(path, os.strerror(error.errno or errno.ENOENT)) from None
    secret = b""
    until = time.monotonic() + timeout
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(until - time.monotonic(), 0))[0]:
            part = pipe.read(LIMIT)
            if not part:
                break
            secret += part
    if not secret:
        raise _nothing(path, f"nobody wrote into it within {timeout:g} s")
    return secret.decode()


def _nothing(path: Path, problem: str) -> LastroError:
    return LastroError(
        f"The pipe {path} brings no secret: {problem}.",
        remedy=Text(en="The controller that makes and fills it is gone: run again.", pt_BR="O controlador que o cria e preenche se foi: execute de novo."),
    )


__all__ = ("give", "make", "take")
