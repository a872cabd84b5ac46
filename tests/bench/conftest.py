# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection that comparisons are made with: the pinned community.postgresql, whose modules run in processes of their own."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import typing as t
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from demo.postgres import bin_directory

ROOT = Path(__file__).resolve().parents[2]
# The newest for Python 3.11; it carries community.postgresql 4.2.0, whose modules need no other part of it.
PACKAGE = "ansible==12.3.0"
COLLECTION = "ansible_collections/community/postgresql/"
_CHILD = """
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module("ansible_collections.community.postgresql.plugins.modules." + sys.argv[1])
with patch_module_args(json.load(sys.stdin)):
    module.main()
"""


@dataclasses.dataclass(frozen=True)
class Theirs:
    """community.postgresql in *directory*."""

    directory: Path

    @contextlib.contextmanager
    def started(self, module: str, options: t.Mapping[str, object]) -> collections.abc.Iterator[subprocess.Popen[str]]:
        """One of its modules; the programs of PostgreSQL that it finds are those of the server."""
        path = os.pathsep.join((str(bin_directory()), os.environ["PATH"]))
        environment = {**os.environ, "PYTHONPATH": str(self.directory), "PATH": path}
        command = [sys.executable, "-c", _CHILD, module]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdin is not None
            process.stdin.write(json.dumps(options))
            process.stdin.close()
            process.stdin = None
            yield process

    def ask(self, module: str, options: t.Mapping[str, object]) -> dict[str, t.Any]:
        """Its answer."""
        with self.started(module, options) as process:
            answer: dict[str, t.Any] = json.loads(process.communicate()[0])
        return answer


@pytest.fixture(scope="session")
def theirs() -> collections.abc.Iterator[Theirs]:
    """Their collection, from the wheel that carries it."""
    cache = Path(subprocess.run([ROOT / "tests" / "bin" / "cache-directory"], capture_output=True, text=True, check=True).stdout.strip())
    version = PACKAGE.partition("==")[2]
    wheel = cache / f"ansible-{version}-py3-none-any.whl"
    if not wheel.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", cache, PACKAGE], check=True)
    directory = Path(tempfile.mkdtemp(prefix="lastro-bench-"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory, [name for name in archive.namelist() if name.startswith(COLLECTION)])
    yield Theirs(directory)
    shutil.rmtree(directory)


def login(url: str) -> dict[str, object]:
    """The options with which its modules connect."""
    parts = urlsplit(url)
    return {"login_host": parts.hostname, "login_port": parts.port, "login_user": parts.username, "login_password": parts.password}
