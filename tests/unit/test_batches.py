# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which app hosts are switched together."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _batches
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.lists(st.one_of(st.integers(1, 9), st.integers(1, 100).map(lambda share: f"{share}%")), min_size=1, max_size=4)


def joined(batches: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(batches))


@pytest.mark.parametrize(
    ("count", "sizes", "found"),
    [
        (1, [1], [1]),
        (3, [1], [1, 1, 1]),
        (10, [1, "50%"], [1, 5, 4]),
        (10, ["25%"], [2, 2, 2, 2, 2]),
        (3, ["10%"], [1, 1, 1]),
        (2, [5], [2]),
        (0, [1], []),
    ],
)
def test_examples(count: int, sizes: list[int | str], found: list[int]) -> None:
    hosts = [f"app{number}" for number in range(count)]
    cut = _batches.batches(hosts, sizes)
    assert [len(batch) for batch in cut] == found
    assert joined(cut) == hosts


@given(st.integers(0, 60), SIZES)
def test_each_host_is_in_one_batch_and_every_one_before_it_comes_first(count: int, sizes: list[int | str]) -> None:
    hosts = [f"app{number:02}" for number in range(count)]
    cut = _batches.batches(hosts, sizes)
    assert joined(cut) == hosts
    assert all(cut)
    groups = {f"{_batches.GROUP}{number:03}": batch for number, batch in enumerate(cut)}
    assert _batches.sizes_of_groups(groups) == [len(batch) for batch in cut] or not hosts
    for number, batch in enumerate(cut):
        assert all(_batches.hosts_before(cut, host) == joined(cut[:number]) for host in batch)


@pytest.mark.parametrize("size", [1, 7, "1%", "50%", "100%"])
def test_sizes(size: int | str) -> None:
    assert _batches.size_problem(size) == ""


@pytest.mark.parametrize("size", [0, -1, True, "0%", "101%", "half", "5", 1.5, None, "%"])
def test_what_is_no_size(size: object) -> None:
    assert str(size) in _batches.size_problem(size)
