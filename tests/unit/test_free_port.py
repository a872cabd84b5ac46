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
from pathlib import Path

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
        chance = secrets.choice
        monkeypatch.setattr(secrets, "choice", lambda ports: offers.pop() if offers else chance(ports))
        assert postgres.free_port() not in taken
        assert offers == []


@pytest.mark.parametrize(
    ("clients", "servers"),
    [
        ("32768\t60999\n", range(10_000, 32_768)),
        ("1024 49151\n", range(49_152, 65_536)),
        ("1024 65535\n", range(10_000, 65_536)),
        (None, range(10_000, 65_536)),
    ],
)
def test_servers_get_ports_beside_those_of_clients(clients: str | None, servers: range, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = tmp_path / "range"
    if clients is not None:
        said.write_text(clients, encoding="ascii")
    monkeypatch.setattr(postgres, "EPHEMERAL", said)
    ports = {postgres.free_port() for _unused in range(2 * postgres.MOST_RESERVED)}
    assert ports <= set(servers)
    assert len(postgres._reserved) == postgres.MOST_RESERVED
