# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Prometheus text format (and OpenMetrics') read with the standard library. PRIVATE to the collection."""

from __future__ import annotations

import math
import re
import typing as t


class Series(t.NamedTuple):
    """One line of a scrape: a name, its labels sorted by name, a value."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    def label(self, name: str) -> str:
        """The value of a label; "" where the series has none of that name."""
        return dict(self.labels).get(name, "")


_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|(?=\}))')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text: str) -> list[Series]:
    """The series of a scrape, comments left out. Raises ValueError with the number of the first line that is none."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            found.append(_parse_line(stripped, number))
    return found


def _parse_line(line: str, number: int) -> Series:
    name = _NAME.match(line)
    if not name:
        raise ValueError(f"line {number} is not in the Prometheus text format")
    labels, position = _parse_labels(line, name.end(), number)
    words = line[position:].split()
    try:
        return Series(name[0], labels, float(words[0]))
    except (IndexError, ValueError):
        raise ValueError(f"line {number} has no value") from None


def _parse_labels(line: str, position: int, number: int) -> tuple[tuple[tuple[str, str], ...], int]:
    if not line[position:].startswith("{"):
        return (), position
    position += 1
    labels = []
    while match := _LABEL.match(line, position):
        labels.append((match[1], re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), match[2])))
        position = match.end()
    rest = line[position:].lstrip()
    if not rest.startswith("}"):
        raise ValueError(f"line {number} has labels that do not end")
    return tuple(sorted(labels)), len(line) - len(rest) + 1


class Increase(t.NamedTuple):
    """How far counters went between two scrapes."""

    good: float
    bad: float


class Counters:
    """The request counters of one URL over time.

    A counter that went back belongs to a process that started again: all of its new value counts. A series that
    appears later counts from zero. The first scrape gives no increase.
    """

    def __init__(self, name: str, status_label: str) -> None:
        self._name = name
        self._label = status_label
        self._last: dict[tuple[tuple[str, str], ...], float] | None = None

    @property
    def present(self) -> bool:
        """Whether the last scrape had the counter at all."""
        return bool(self._last)

    def update(self, text: str) -> Increase | None:
        """The increase since the scrape before; None after the first one. Raises ValueError for another format."""
        series = {one.labels: one for one in parse(text) if one.name == self._name and math.isfinite(one.value)}
        before, self._last = self._last, {labels: one.value for labels, one in series.items()}
        if before is None:
            return None
        good = bad = 0.0
        for labels, one in series.items():
            old = before.get(labels, 0.0)
            delta = one.value - old if one.value >= old else one.value
            if one.label(self._label).startswith("5"):
                bad += delta
            else:
                good += delta
        return Increase(good, bad)


__all__ = ("Counters", "Increase", "Series", "parse")
