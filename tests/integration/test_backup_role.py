# SPDX-License-Identifier: GPL-3.0-or-later
"""The role backup: what the profile says reaches pg_dump, and its key only through a pipe."""

from __future__ import annotations

import collections.abc
import json
import typing as t
from pathlib import Path

from demo.postgres import Postgres
from pyrage import x25519

from .dump_support import names
from .sql import execute


def test_what_the_profile_says_reaches_pg_dump(
    *,
    clusters: Path,
    database: str,
    postgres: Postgres,
    player: collections.abc.Callable[..., t.Any],
    include_role: collections.abc.Callable[..., t.Any],
) -> None:
    execute(database, "CREATE TABLE one AS SELECT generate_series(1, 1000) AS id", "CREATE TABLE two AS SELECT generate_series(1, 900) AS id")
    identity = x25519.Identity.generate()
    (clusters / "clusters").mkdir(mode=0o755)
    variables = {
        "deploy_state_dir": str(clusters / "state"),
        "deploy_root": str(clusters / "app"),
        "deploy_database": {"url": database},
        "deploy_migrations": {"rehearsal_cluster": str(clusters / "clusters")},
        "deploy_backup": {
            "dest": str(clusters / "backups"),
            "recipients": [str(identity.to_public())],
            "identity": str(identity),
            "format": "directory",
            "jobs": 2,
            "compression": "gzip",
            "compression_level": 9,
            "globals": "without_passwords",
            "hashes": "counts",
            "verify": "restore",
            "lock_wait_timeout": "3s",
            "max_size_ratio": 0,
            "bin_dir": str(postgres.installation / "bin"),
        },
    }
    run = {"run_id": "20261126T080000-7c1f", "actor": "ana", "reason": "", "controller": {"host": "c", "pid": 1, "started": 1.0}}
    played = player(variables)(include_role("backup", "alone"), facts=["backup_result"], options=["-e", json.dumps({"deploy_run": run})])
    made = played.facts["backup_result"]
    name = "manual-20261126T080000-7c1f"
    assert names(clusters / "backups") == [f"{name}.{kind}" for kind in ("data1.dump.gz.age", "dump.gz.age", "globals.sql.gz.age", "manifest.json")]
    assert (made["verified"], made["hashes"]) == (["read", "decode", "decrypt", "restore"], "counts")
    assert (names(clusters / "clusters"), str(identity) in played.output) == ([], False)
    assert [path.name for path in (clusters / "state").iterdir() if path.suffix == ".pipe"] == []
