# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment file of a release: written 0600 on the host, read by modules and by the process launcher.

The format is the one that systemd reads (``man 5 systemd.exec``, EnvironmentFile=): ``NAME="value"``, one a line,
with backslash, double quote, dollar and backtick escaped by a backslash inside the quotes.

This file uses the standard library alone, since strategy ``supervisor`` copies it to hosts and runs it there as
``python environment_file.py FILE COMMAND ...``: the command starts with the file's variables and no secret is in argv.
PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import os
import re
import sys
import typing as t

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ESCAPED = re.compile(r'([\\"$`])')
_UNESCAPED = re.compile(r'\\([\\"$`])')


def render(variables: t.Mapping[str, object]) -> str:
    """Text of an environment file, sorted by name. Raises ValueError for a name that no shell would take."""
    lines = []
    for name in sorted(variables):
        if not NAME.match(name):
            raise ValueError(f"{name!r} is not a variable name (letters, digits and underscores)")
        value = _ESCAPED.sub(r"\\\1", str(variables[name]))
        lines.append(f'{name}="{value}"\n')
    return "".join(lines)


def parse(text: str) -> dict[str, str]:
    """Variables of an environment file; the inverse of ``render``, and lenient to hand-written unquoted values."""
    variables: dict[str, str] = {}
    pattern = re.compile(r'^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(?:"((?:\\.|[^"\\])*)"|\'([^\']*)\'|([^\n]*))[ \t\r]*$', re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(text):
        name, double, single, bare = match.groups()
        if double is not None:
            variables[name] = _UNESCAPED.sub(r"\1", double)
        else:
            variables[name] = single if single is not None else bare.strip()
    return variables


def read(path: str) -> dict[str, str]:
    """Variables of the environment file at *path*. Raises OSError."""
    with open(path, encoding="utf-8", newline="") as stream:  # a carriage return inside a value is the value's own
        return parse(stream.read())


def main(arguments: t.Sequence[str]) -> t.NoReturn:
    """Replace this process by the command in ``arguments[1:]`` with the variables of ``arguments[0]`` added."""
    path, *command = arguments
    os.execvpe(command[0], command, {**os.environ, **read(path)})


if __name__ == "__main__":  # pragma: no cover
    main(sys.argv[1:])

__all__ = ("NAME", "parse", "read", "render")
