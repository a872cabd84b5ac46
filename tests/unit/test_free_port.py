# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of the embedded servers: chosen long before they are bound, by several processes of one machine."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys

import pytest
from demo import postgres

ELSEWHERE = "import sys; from demo import postgres; print(postgres.free_port(), flush=True); sys.stdin.read()"


def test_what_another_process_chose_or_listens_to_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen([sys.executable, "-c", ELSEWHERE], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert other.stdout
        taken = [int(other.stdout.readline()), listener.getsockname()[1]]
        offers = list(taken)
        chance = secrets.randbelow
        monkeypatch.setattr(secrets, "randbelow", lambda count: offers.pop() - postgres.LOWEST_PORT if offers else chance(count))
        assert postgres.free_port() not in taken
        assert offers == []


def test_the_kernel_gives_none_of_them_to_a_client() -> None:
    lowest = int(postgres.EPHEMERAL.read_text(encoding="ascii").split()[0])
    ports = {postgres.free_port() for _unused in range(3 * postgres.MOST_RESERVED)}
    assert postgres.LOWEST_PORT <= min(ports) <= max(ports) < lowest
    assert len(postgres._reserved) == postgres.MOST_RESERVED
