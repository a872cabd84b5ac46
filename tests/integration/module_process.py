# SPDX-License-Identifier: GPL-3.0-or-later
"""A module in a process of its own, where tests may kill it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path


@contextlib.contextmanager
def started(module: str, options: t.Mapping[str, object]) -> t.Iterator[subprocess.Popen[bytes]]:
    """The module with *options*; killed at the end where it still runs. What it started is not."""
    program = (
        "import json, sys; from ansible.module_utils.testing import patch_module_args\n"
        f"from ansible_collections.lastro.deploy.plugins.modules import {module}\n"
        f"with patch_module_args(json.loads(sys.stdin.readline())): {module}.main()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(json.dumps(options).encode() + b"\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[bytes], seconds: float = 120) -> dict[str, t.Any]:
    """What the module answered."""
    result: dict[str, t.Any] = json.loads(process.communicate(timeout=seconds)[0])
    return result


def children(process: subprocess.Popen[bytes]) -> dict[int, str]:
    """The programs that it runs now: their command lines by process id."""
    found = {}
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split():
            found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


def until(condition: t.Callable[[], t.Any], seconds: float = 60) -> t.Any:  # noqa: ANN401 - what the condition gives
    """What *condition* says once it says something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        threading.Event().wait(0.005)
    raise AssertionError("the condition was never met")
