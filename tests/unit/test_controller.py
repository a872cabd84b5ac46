# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process a run belongs to, and when it counts as dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _controller
from ansible_collections.lastro.deploy.plugins.module_utils._controller import has_died, this_controller


def test_this_process_lives() -> None:
    controller = this_controller(os.getpid())
    assert controller["pid"] == os.getpid()
    assert controller["started"] > 0
    assert not has_died(controller)


def test_another_process_with_the_same_number_is_not_it() -> None:
    controller = this_controller(os.getpid())
    assert has_died({**controller, "started": controller["started"] - 1})


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        controller = this_controller(process.pid)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has read how
        assert has_died(controller)


@pytest.mark.parametrize(
    ("own", "other", "died"),
    [
        ("m1 pid:[1]/boot-2", "m1 pid:[1]/boot-1", True),  # the machine was started again
        ("m1 pid:[1]/boot-1", "m2 pid:[1]/boot-1", False),  # another machine
        ("m1 pid:[2]/boot-1", "m1 pid:[1]/boot-1", False),  # another container on this machine
        ("unknown pid:[1]/boot-1", "unknown pid:[1]/boot-2", False),  # two machines without a name
        ("unknown pid:[1]/boot-1", "unknown pid:[1]/boot-1", True),  # the boot is name enough
        ("m1 /", "m1 /", False),  # a system that does not tell
        ("m1 pid:[1]/boot-1", "", False),
    ],
)
def test_where_it_can_be_known(own: str, other: str, died: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_controller, "_machine", lambda: own)
    assert has_died({"machine": other, "pid": 2**22 + 1, "started": 5}) is died
    assert has_died({}) is False


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_controller, "Path", lambda *parts: Path("/nonexistent", *(str(part).lstrip("/") for part in parts)))
    controller = this_controller(os.getpid())
    assert controller == {"machine": "unknown /", "pid": os.getpid(), "started": 0}
    assert not has_died(controller)
