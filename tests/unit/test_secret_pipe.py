# SPDX-License-Identifier: GPL-3.0-or-later
"""A secret through a named pipe: it reaches one reader, and no file has it."""

from __future__ import annotations

import collections.abc
import stat
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _secret_pipe
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import secret_pipe

SECRET = "AGE-SECRET-KEY-1é" + "Q" * 5000
CallModule = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_whoever_comes_first_waits(tmp_path: Path, call_module: CallModule, first: str) -> None:
    path = tmp_path / "identity.pipe"
    path.write_text("left over", encoding="utf-8")
    call_module(secret_pipe, path=str(path))
    assert (stat.S_ISFIFO(path.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (True, 0o600)
    found: list[str] = []
    answers: list[dict[str, t.Any]] = []

    def take() -> None:
        found.append(_secret_pipe.take(path, timeout=30))

    if first == "reader":
        thread = threading.Thread(target=take)
        thread.start()
        answers.append(call_module(secret_pipe, path=str(path), value=SECRET))
    else:
        give = threading.Thread(target=lambda: answers.append({"taken": _secret_pipe.give(path, SECRET, timeout=30)}))
        give.start()
        thread = threading.Thread(target=take)
        thread.start()
        give.join(timeout=30)
    thread.join(timeout=30)
    assert (found, answers[0]["taken"]) == ([SECRET], True)
    assert SECRET not in str(answers)
    assert not path.exists()


def test_nobody_on_the_other_side(tmp_path: Path, call_module: CallModule) -> None:
    path = tmp_path / "identity.pipe"
    _secret_pipe.make(path)
    with pytest.raises(LastroError, match="brings no secret: nobody wrote into it within 0 s"):
        _secret_pipe.take(path, timeout=0)
    assert call_module(secret_pipe, check=True, path=str(path), value=SECRET)["taken"] is False
    assert path.exists()
    assert call_module(secret_pipe, path=str(path), value=SECRET, timeout=0)["taken"] is False
    assert not path.exists()
    with pytest.raises(LastroError, match="brings no secret: No such file"):
        _secret_pipe.take(path, timeout=0)
    refused = call_module(secret_pipe, path=str(tmp_path / "nowhere" / "pipe"))
    assert refused["failed"] and str(tmp_path / "nowhere") in refused["msg"]
