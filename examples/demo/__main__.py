# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m demo run`, `python -m demo up`, `python -m demo seed`, `python -m demo stop`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import psycopg2
from calendar_api.seed import seed

from .story import tell
from .world import ROOT, USERS, World


def main() -> int:
    """Run a command of the demo."""
    parser = argparse.ArgumentParser(prog="demo", description="A real application deploys, breaks and comes back, on this machine.")
    parser.add_argument("command", choices=["run", "up", "seed", "stop"])
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("LASTRO_DEMO", ROOT / ".demo")), help="the demo's directory (default %(default)s)")
    options = parser.parse_args()
    world = World(options.home.absolute())
    if options.command == "run":
        return tell(world)
    if options.command == "up":
        world.create()
    elif options.command == "stop":
        world.remove()
    else:
        fill(world)
    return 0


def fill(world: World) -> None:
    """Give r1 its users, once."""
    connection = psycopg2.connect(world.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM users)")
        filled = cursor.fetchone() == (True,)
    connection.close()
    if not filled:
        seed(world.database_url, USERS)


if __name__ == "__main__":
    sys.exit(main())
