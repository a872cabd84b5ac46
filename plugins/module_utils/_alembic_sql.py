# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered SQL cut into statements that patterns can be laid on. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import dataclasses
import re

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      |(?P<comment>--[^\n]*|/\*.*?\*/)
      |(?P<string>[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag))
      |(?P<quoted>"(?:[^"]|"")*")
      |(?P<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)
      |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
NAME = r'(?:"(?:[^"]|"")*"|[\w$]+)(?: ?\. ?(?:"(?:[^"]|"")*"|[\w$]+))*'
"""Pattern of a table's or an index's name in a statement's C(pattern_text)."""
SHOWN = 300


@dataclasses.dataclass(frozen=True)
class Statement:
    """*text* as it runs; *pattern_text* in one line with words in upper case, literals as C('') and no comments; *end* is where it ends in its file."""

    text: str
    pattern_text: str
    end: int = 0

    @property
    def shown(self) -> str:
        """The statement in one line, shortened, for a message."""
        line = " ".join(self.text.split())
        return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"

    def actions(self, after: int) -> list[str]:
        """The parts of C(pattern_text) from *after* on, cut at commas outside parentheses."""
        parts, depth, begin = [], 0, after
        for place, character in enumerate(self.pattern_text[after:], start=after):
            depth += {"(": 1, ")": -1}.get(character, 0)
            if character == "," and depth == 0:
                parts.append(self.pattern_text[begin:place].strip())
                begin = place + 1
        return [*parts, self.pattern_text[begin:].strip()]


def statements(sql: str) -> list[Statement]:
    """The statements of *sql*; a semicolon in a literal, a quoted name, a dollar-quoted body or a comment ends none."""
    found: list[Statement] = []
    text: list[str] = []
    pattern: list[str] = []
    end = 0

    def finish() -> None:
        if pattern:
            found.append(Statement("".join(text).strip(), " ".join("".join(pattern).split()), end))
        text.clear()
        pattern.clear()

    for match in _TOKEN.finditer(sql):
        kind, piece, end = match.lastgroup, match.group(), match.end()
        kind = "string" if kind == "tag" else kind
        if kind == "other" and piece == ";":
            finish()
        elif kind == "comment" or (kind == "space" and not pattern):
            text.append(" " if pattern else "")
        else:
            text.append(piece)
            pattern.append({"space": " ", "string": " '' ", "word": piece.upper()}.get(kind or "", piece))
    finish()
    return found


def plain(name: str) -> str:
    """A name of a pattern text as the catalog has it: C(PUBLIC.USERS) is C(public.users), C("Users") is C(Users)."""
    parts = re.findall(r'"(?:[^"]|"")*"|[\w$]+', name)
    return ".".join(part[1:-1].replace('""', '"') if part.startswith('"') else part.lower() for part in parts)


__all__ = ("NAME", "Statement", "plain", "statements")
