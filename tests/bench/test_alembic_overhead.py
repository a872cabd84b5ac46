# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic and alembic_info beside the command line: 50 small revisions, one process each, taking turns in one run. Ratios of medians."""

from __future__ import annotations

import collections.abc
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from demo.postgres import Postgres

from tests.integration.alembic_project import INI, App, running
from tests.integration.alembic_server import fresh
from tests.integration.module_process import finished

REVISIONS = 50
MOST = 1.5
QUIET = {"lint": {"profile": "off"}}


def project(directory: Path, url: str) -> App:
    chain = {f"s{n:02}": (f"op.create_table('t{n:02}', sa.Column('id', sa.Integer, primary_key=True))", f"op.drop_table('t{n:02}')") for n in range(REVISIONS)}
    app = App.create(directory, url, chain)
    (directory / "alembic.ini").write_text(f"{INI}sqlalchemy.url = {url.replace('%', '%%')}\n")
    return app


def command_line(app: App, *arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("alembic")), *arguments]
    subprocess.run(command, cwd=app.directory, env={**os.environ, "DATABASE_URL": app.url}, check=True, capture_output=True)


def module(app: App, name: str, **options: object) -> None:
    with running(app, name, **options) as process:
        assert not finished(process).get("failed")


def seconds(work: collections.abc.Callable[..., None], *arguments: object, **options: object) -> float:
    begun = time.monotonic()
    work(*arguments, **options)
    return time.monotonic() - begun


def test_alembic_overhead(postgres: Postgres, tmp_path: Path, rounds: collections.abc.Callable[[int, int], int]) -> None:
    taken: dict[str, list[float]] = {"alembic upgrade": [], "module alembic": [], "alembic current": [], "module alembic_info": []}
    for number in range(rounds(1, 9)):
        theirs, ours = (project(tmp_path / f"{side}{number}", fresh(postgres)) for side in ("theirs", "ours"))
        taken["alembic upgrade"].append(seconds(command_line, theirs, "upgrade", "head"))
        taken["module alembic"].append(seconds(module, ours, "alembic", **QUIET))
        taken["alembic current"].append(seconds(command_line, theirs, "current"))
        taken["module alembic_info"].append(seconds(module, ours, "alembic_info", prechecks=False, **QUIET))
        assert ours.rows("SELECT version_num FROM alembic_version") == theirs.rows("SELECT version_num FROM alembic_version") == [(f"s{REVISIONS - 1}",)]
    middle = {name: statistics.median(values) for name, values in taken.items()}
    upgrade, info = middle["module alembic"] / middle["alembic upgrade"], middle["module alembic_info"] / middle["alembic current"]
    print("".join(f"\n{name:20} {value:.2f} s" for name, value in middle.items()))
    print(f"upgrade: {upgrade:.2f} times, info: {info:.2f} times the command line (at most {MOST})")
    assert upgrade <= MOST
    assert info <= MOST
