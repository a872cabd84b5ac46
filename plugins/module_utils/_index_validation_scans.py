# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables and indexes a plan reads, from what EXPLAIN (FORMAT JSON) says. Pure. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import json
import typing as t

Node = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class TableSize:
    """What the catalog says of a table: rows (-1 where it was never analysed) and bytes."""

    rows: float
    size: int


@dataclasses.dataclass(frozen=True)
class Scan:
    """One node of a plan that reads a table or an index; a bitmap index scan names no table. *rows* is the estimate of rows that it reads in all."""

    node: str
    index: str
    schema: str
    table: str
    rows: float = 0.0

    @property
    def sequential(self) -> bool:
        """Whether it reads the whole table."""
        return self.node == "Seq Scan"

    @property
    def qualified(self) -> str:
        """The table as schema.table."""
        return f"{self.schema}.{self.table}" if self.schema else self.table

    def words(self) -> str:
        """The node for messages."""
        return f"{self.node} using {self.index}" if self.index else f"{self.node} on {self.table}"


def plan_scans(plan: str, sizes: t.Mapping[str, TableSize] | None = None) -> list[Scan]:
    """The reading nodes of a plan as EXPLAIN (FORMAT JSON) prints it. *sizes* (by schema.table) says what a sequential scan reads."""
    return list(_scans(json.loads(plan)[0]["Plan"], 1.0, sizes or {}))


def _scans(node: Node, loops: float, sizes: t.Mapping[str, TableSize]) -> t.Iterator[Scan]:
    if "Index Name" in node or "Relation Name" in node:
        scan = Scan(node["Node Type"], node.get("Index Name", ""), node.get("Schema", ""), node.get("Relation Name", ""), node.get("Plan Rows", 0) * loops)
        size = sizes.get(scan.qualified) if scan.sequential else None
        # Plan Rows are those that pass the filter; a sequential scan reads all.
        yield dataclasses.replace(scan, rows=max(scan.rows, size.rows * loops)) if size else scan
    outer: Node | None = None
    for child in node.get("Plans", ()):
        again = node["Node Type"] == "Nested Loop" and outer is not None
        times = max(1.0, float(outer.get("Plan Rows", 1))) if again and outer is not None else 1.0
        yield from _scans(child, loops * times, sizes)
        outer = child


__all__ = ("Scan", "TableSize", "plan_scans")
