# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a new backup can be what it should be: its size beside the last good ones, its tables beside the catalog.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import re
import statistics
import typing as t

from ._backup_manifest import Manifest
from ._backup_snapshot import Table, display_name
from ._errors import LastroError, Text

HISTORY = 5


_ENTRY = re.compile(r"^\d+; \d+ \d+ TABLE DATA (.*)$", re.MULTILINE)


def check_contents(contents: str, expected: t.Iterable[Table]) -> None:
    """Raises LastroError that names the tables of *expected* whose rows are not in the archive with *contents* (``pg_restore --list``)."""
    found = {" ".join(entry.split()) for entry in _ENTRY.findall(contents)}
    missing = sorted(display_name(table.schema, table.name) for table in expected if " ".join(table.entry.split()) not in found)
    if missing:
        raise LastroError(
            f"The dump lacks the rows of {len(missing)} tables that the database has: {', '.join(missing[:20])}. It was not kept.",
            remedy=Text(
                en="Run again; if it stays, compare the versions of pg_dump and of the server.",
                pt_BR="Execute de novo; se persistir, compare as versões do pg_dump e do servidor.",
            ),
            missing=missing,
        )


def check_size(manifest: Manifest, history: t.Sequence[Manifest], max_ratio: float) -> list[str]:
    """Compare with the median of the last five good backups: a warning where it grew much, LastroError where it shrank much."""
    sizes = [one.dump_size for one in history[:HISTORY]]
    if not sizes or not max_ratio:
        return []
    median = statistics.median(sizes)
    if manifest.dump_size > median * max_ratio:
        return [f"The backup has {manifest.dump_size} bytes, more than {max_ratio} times the median of the last {len(sizes)} good ones ({int(median)})."]
    if manifest.dump_size * max_ratio >= median:
        return []
    shrunk = [
        f"{name} ({state.rows} -> {manifest.tables[name].rows if name in manifest.tables else 'gone'})"
        for name, state in sorted(history[0].tables.items())
        if name not in manifest.tables or manifest.tables[name].rows < state.rows
    ]
    raise LastroError(
        f"The backup has {manifest.dump_size} bytes, less than the median of the last {len(sizes)} good ones ({int(median)}) divided by {max_ratio}. "
        f"Tables with fewer rows than in {history[0].name}: {', '.join(shrunk[:20]) or 'none'}. It was not kept.",
        remedy=Text(
            en="If the data really became fewer, run once with max_size_ratio: 0; otherwise find out who deleted them.",
            pt_BR="Se os dados diminuíram mesmo, execute uma vez com max_size_ratio: 0; senão, descubra quem os apagou.",
        ),
        shrunk=shrunk,
    )


__all__ = ("check_contents", "check_size")
