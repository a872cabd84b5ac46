# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``tests/bin/fleet``."""

from __future__ import annotations

import argparse
import shutil
import sys
import typing as t
from pathlib import Path

from ..hosts.fleet import Fleet, say
from ..hosts.podman import HostsError
from .world import FleetWorld

KINDS = {"db1": "db", "app1": "app", "app2": "app", "proxy1": "proxy"}


def parse(arguments: t.Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="fleet", description="Real hosts on this machine, ready for a first deploy of calendar-api.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the hosts; DIR/ENVIRONMENT/inventory.json is for LASTRO_FLEET")
    up.add_argument("directory", metavar="DIR", type=Path, help="a directory that is not there yet; everything lies in it")
    up.add_argument("--environment", choices=("staging", "prod"), default="prod", help="what the inventory says (default %(default)s)")
    commands.add_parser("down", help="remove hosts and DIR").add_argument("directory", metavar="DIR", type=Path)
    return parser.parse_args(arguments)


def main(arguments: t.Sequence[str]) -> int:
    """Do what the command line asks; the exit status."""
    options = parse(arguments)
    directory = options.directory.resolve()
    fleet = Fleet(directory / "hosts")
    try:
        if options.command == "down":
            fleet.down()
            shutil.rmtree(directory)
            return 0
        fleet.up(KINDS)
        world = FleetWorld.create(directory / options.environment, fleet, environment=options.environment)
        say(f"LASTRO_FLEET={world.inventory}")
    except HostsError as error:
        sys.stderr.write(f"fleet: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
