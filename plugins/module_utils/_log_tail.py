# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last lines of a process's log, without the values of its environment file.

Strategies copy this file to hosts (standard library alone) and run it through the launcher of ``_environment_file`` in an otherwise
empty environment, so that its own environment is the list of what must not be shown: ``environment_file ENV_FILE log_tail LOG``.
PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import os
import re
import sys
import typing as t
from urllib.parse import unquote

LINES = 20
BYTES = 64 * 1024
SHORTEST = 6
"""Shorter values are words and numbers of ordinary text."""

_PASSWORD = re.compile(r"://[^:/@\s]*:([^@\s]+)@")


def redact(text: str, variables: t.Mapping[str, str]) -> str:
    """*text* with each value of *variables*, and each password inside one, replaced by the variable's name."""
    names: dict[str, str] = {}
    for name, value in variables.items():
        passwords = _PASSWORD.findall(value)
        pieces = [value, *value.splitlines(), *passwords, *map(unquote, passwords)]
        names.update({piece: name for piece in pieces if len(piece) >= SHORTEST})
    # Long ones first: a value may contain another one.
    for value in sorted(names, key=len, reverse=True):
        text = text.replace(value, f"[{names[value]}]")
    return text


def last_lines(path: str, count: int = LINES) -> str:
    """The end of the file at *path*; "" where there is none."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            start = max(0, stream.tell() - BYTES)
            stream.seek(start)
            content = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    # The first line may begin in the middle of a value that would not be recognised.
    lines = content.splitlines()[1 if start else 0 :]
    return "\n".join(lines[-count:])


def main(arguments: t.Sequence[str], environment: t.Mapping[str, str]) -> str:
    """The end of the log ``arguments[0]``; *environment* is what must not be shown."""
    # Cut after the redaction: a value of several lines must not be cut in two before.
    shown = redact(last_lines(arguments[0], BYTES), {name: value for name, value in environment.items() if name != "PATH"})
    return "\n".join(shown.splitlines()[-LINES:])


if __name__ == "__main__":  # pragma: no cover
    sys.stdout.write(main(sys.argv[1:], os.environ) + "\n")

__all__ = ("last_lines", "main", "redact")
