# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every kind of test shares: the seed, the number of rounds, a real PostgreSQL server and a fresh database on it."""

from __future__ import annotations

import collections.abc
import json
import os
import random
import secrets
import types
import typing as t

import hypothesis
import psycopg2
import pytest
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args
from demo.postgres import Postgres

FULL = os.environ.get("LASTRO_FULL", "") not in {"", "0"}
SEED = int(os.environ.get("LASTRO_SEED") or secrets.randbelow(2**32))

hypothesis.settings.register_profile("lastro", deadline=None, derandomize=False, database=None, max_examples=500 if FULL else 50)
hypothesis.settings.load_profile("lastro")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for everything random, hypothesis and started programs included."""
    os.environ["LASTRO_SEED"] = str(SEED)
    # ansible-playbook ends by killing its workers; these first write what they have covered.
    os.environ.update(ANSIBLE_WORKER_SHUTDOWN_POLL_COUNT="200", ANSIBLE_WORKER_SHUTDOWN_POLL_DELAY="0.05")
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(SEED)


def pytest_report_header() -> str:
    """The line that tells how to repeat this very run."""
    return f"LASTRO_SEED={SEED} repeats this run; {'the full counts (LASTRO_FULL)' if FULL else 'few rounds (LASTRO_FULL=1: the full counts)'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """The seed once more where something failed, since the header may be thousands of lines above or (with -q) missing."""
    if exitstatus != pytest.ExitCode.OK:
        terminalreporter.write_line(f"LASTRO_SEED={SEED}")


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of this test's own, the same whenever LASTRO_SEED is the same."""
    return random.Random(f"{SEED}:{request.node.nodeid}")


@pytest.fixture(scope="session")
def rounds() -> collections.abc.Callable[[int, int], int]:
    """``rounds(few, full)``: how often to repeat; *full* is the count that an issue names, taken with LASTRO_FULL=1."""
    return lambda few, full: full if FULL else few


@pytest.fixture(autouse=True)
def on_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's main() called here is on a target: an action plugin imported by another test would send its warnings to the controller's display."""
    monkeypatch.setattr(_internal, "is_controller", False)
    monkeypatch.setattr(warnings, "_global_warnings", {})


@pytest.fixture
def call_module(capsys: pytest.CaptureFixture[str]) -> collections.abc.Callable[..., dict[str, t.Any]]:
    """``call_module(module, check=False, **options)``: the answer of a module's main(), run in this process."""

    def call(module: types.ModuleType, *, check: bool = False, **options: object) -> dict[str, t.Any]:
        capsys.readouterr()
        with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        answer: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return answer

    return call


@pytest.fixture(scope="session")
def postgres() -> collections.abc.Iterator[Postgres]:
    """One PostgreSQL 18 server for the whole session."""
    with Postgres.temporary() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> collections.abc.Iterator[str]:
    """URL of a fresh, empty database; dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    connection = psycopg2.connect(postgres.url())
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
            yield postgres.url(name)
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        connection.close()
