# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which app hosts are switched together. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import re
import typing as t

GROUP = "deploy_batch_"
"""A play's ``serial`` sees groups and no profile, so each batch is a group: deploy_batch_000, deploy_batch_001, ..."""

EXAMPLE = '[1, "50%"]'


def size_problem(size: object) -> str:
    """What is wrong with one entry of ``deploy_batches``; "" where nothing is. A number of hosts, or a share of all as ``N%``."""
    if isinstance(size, int) and not isinstance(size, bool):
        return "" if size > 0 else f"has {size}."
    share = re.fullmatch(r"(\d{1,3})%", str(size))
    return "" if share and 0 < int(share[1]) <= 100 else f"has {size!r}."


def batches(hosts: t.Sequence[str], sizes: t.Sequence[int | str]) -> list[list[str]]:
    """*hosts* in their order, cut into batches of *sizes*; the last size repeats. A share is of all hosts, at least one."""
    found: list[list[str]] = []
    done = 0
    while done < len(hosts):
        size = sizes[min(len(found), len(sizes) - 1)]
        count = size if isinstance(size, int) else max(1, len(hosts) * int(str(size).rstrip("%")) // 100)
        found.append(list(hosts[done : done + count]))
        done += count
    return found


def sizes_of_groups(groups: t.Mapping[str, t.Sequence[str]]) -> list[int]:
    """The sizes for ``serial`` from the groups that the plan made; one host at a time where it made none."""
    return [len(groups[name]) for name in sorted(groups) if name.startswith(GROUP)] or [1]


def hosts_before(found: t.Sequence[t.Sequence[str]], host: str) -> list[str]:
    """The hosts of all batches before the one that *host* is in."""
    before: list[str] = []
    for batch in found:
        if host in batch:
            break
        before += batch
    return before


__all__ = ("EXAMPLE", "GROUP", "batches", "hosts_before", "size_problem", "sizes_of_groups")
