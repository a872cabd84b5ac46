# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New lines of errors in what a release has logged. PRIVATE to the collection: may change at any time.

Lines are counted and never kept: they may hold what an application says of its users.
"""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._gates import Judge, Sample, parse_gates

METRIC = "log_errors"
PATTERN = r"\b(ERROR|CRITICAL|FATAL)\b"
"""How the level stands in a line of Python's logging, gunicorn and most others."""

Position = dict[str, t.Any]
"""The place in a log up to which its lines are old."""


def argument_spec() -> ArgumentSpec:
    """The options of a strategy's info module, whose doc fragment is C(log_errors)."""
    return ArgumentSpec({"errors_after": {"type": "dict"}, "errors_of": {"type": "str", "default": ""}, "error_pattern": {"type": "str", "default": PATTERN}})


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern of a line that tells of an error. Raises LastroError."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise LastroError(
            f"error_pattern is no regular expression: {error}.",
            remedy=Text(en="Correct error_pattern in deploy_watch, or leave it out.", pt_BR="Corrija error_pattern em deploy_watch, ou omita-o."),
        ) from error


def position(log: Path) -> Position:
    """The end of a log file now; {} where there is none yet."""
    try:
        found = log.stat()
    except FileNotFoundError:
        return {}
    return {"inode": found.st_ino, "size": found.st_size}


def count_after(log: Path, start: Position, pattern: re.Pattern[str]) -> int:
    """The lines behind *start* that match. A log that was turned over meanwhile goes on in its first backup (C(.1)). Raises OSError."""
    now = position(log)
    if not start or not now or now["inode"] == start["inode"]:
        return _count(log, start.get("size", 0) if now else 0, pattern)
    backup = log.with_name(f"{log.name}.1")
    turned = position(backup).get("inode") == start["inode"]
    return _count(log, 0, pattern) + (_count(backup, start["size"], pattern) if turned else 0)


def _count(log: Path, offset: int, pattern: re.Pattern[str]) -> int:
    if not log.exists():
        return 0
    with log.open("rb") as stream:
        stream.seek(offset)
        return sum(1 for line in stream if pattern.search(line.decode("utf-8", errors="replace")))


def judged(count: int, gates: t.Sequence[t.Mapping[str, t.Any]], host: str, now: float) -> dict[str, t.Any]:
    """The evidence of one host: {log_errors, gates}, and {verdict, action, reason} where a gate on the metric does not pass. Raises LastroError."""
    chosen = [
        {**{key: value for key, value in gate.items() if key != "for"}, "name": f"{gate.get('name') or METRIC} {host}"}
        for gate in gates
        if gate["metric"] == METRIC
    ]
    # Counted once, over the whole time: a span of its own means nothing.
    judge = Judge(parse_gates(chosen, sources=["logs"], duration=0))
    judge.observe(Sample(now, {METRIC: float(count)}))
    judgement = judge.judgement()
    evidence: dict[str, t.Any] = {METRIC: {host: count}, "gates": [gate.as_dict() for gate in judgement.gates]}
    if judgement.verdict == "pass":
        return evidence
    limits = ", ".join(gate["limit"] for gate in evidence["gates"] if gate["verdict"] != "pass")
    reason = Text(
        f"{host}: {count} new error lines in the application's log since the switch (promised {limits})",
        f"{host}: {count} novas linhas de erro no log da aplicação desde a troca (prometido {limits})",
    )
    return {**evidence, "verdict": judgement.verdict, "action": judgement.action, "reason": reason._asdict()}


__all__ = ("METRIC", "PATTERN", "Position", "argument_spec", "compiled", "count_after", "judged", "position")
