# SPDX-License-Identifier: GPL-3.0-or-later
"""max_replica_lag beside a real standby whose replay is stopped."""

from __future__ import annotations

import threading
import typing as t
from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _token_lag
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from demo.postgres import Postgres, free_port

from .token_table import Credentials, options

LAG = 0.5


class Standby(Postgres):
    """A streaming replica of the server in the same directory."""

    @property
    def data(self) -> Path:
        return self.base / "standby"

    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.password}

    def copy(self, primary: Postgres) -> None:
        """Begin as the primary is now."""
        self._program("pg_basebackup", f"--dbname=host=127.0.0.1 port={primary.port} user=postgres", f"--pgdata={self.data}", "-R", "--checkpoint=fast")


def test_the_run_waits_for_a_replica_that_stands_still_and_goes_on_with_it() -> None:
    with Postgres.temporary() as primary:
        primary.base.chmod(0o777)
        standby = Standby(primary.base, free_port(), primary.password)
        standby.copy(primary)
        standby.start()
        try:
            credentials, replica = Credentials(primary.url()), Credentials(standby.url())
            credentials.create(4000)
            replica.sql("SELECT pg_wal_replay_pause()")
            waited = threading.Event()
            outcome: dict[str, t.Any] = {}

            def sleep(seconds: float) -> None:
                if seconds == _token_lag.INTERVAL:
                    waited.set()
                threading.Event().wait(seconds)

            def work() -> None:
                outcome.update(converge(parse_url(primary.url()), options(batch_size=50, max_replica_lag=LAG, pause=0.03), progress=silent, sleep=sleep))

            thread = threading.Thread(target=work)
            thread.start()
            assert waited.wait(60)
            before = credentials.sql("SELECT count(token_encrypted) FROM credentials")
            thread.join(2)
            assert thread.is_alive()
            assert credentials.sql("SELECT count(token_encrypted) FROM credentials") == before != [(4000,)]
            replica.sql("SELECT pg_wal_replay_resume()")
            thread.join(60)
            assert (outcome["verified"], outcome["clear_left"]) == (4000, 0)
            credentials.connection.close()
            replica.connection.close()
        finally:
            standby.stop("immediate")
