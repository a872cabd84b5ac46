# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``tests/bin/hosts``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import typing as t
from pathlib import Path

from . import images
from .fleet import Fleet, say
from .podman import HostsError, Podman

DEFAULT = ("db1=db", "app1=app", "app2=app", "proxy1=proxy")


def parse(arguments: t.Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="hosts", description="Real systemd hosts on this machine: containers with a Debian 12 each.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start hosts; DIR/inventory.yml names them")
    up.add_argument("directory", metavar="DIR", type=Path, help="a directory that is not there yet; everything lies in it")
    up.add_argument("hosts", metavar="NAME=KIND", nargs="*", default=DEFAULT, help=f"kinds are {', '.join(images.KINDS)} (default: {' '.join(DEFAULT)})")
    for name, text in (("down", "remove hosts, network, key and DIR"), ("ssh", "log in")):
        command = commands.add_parser(name, help=text)
        command.add_argument("directory", metavar="DIR", type=Path)
        if name == "ssh":
            command.add_argument("host", metavar="NAME")
            command.add_argument("words", metavar="COMMAND", nargs=argparse.REMAINDER)
    commands.add_parser("clean", help="remove the images too")
    return parser.parse_args(arguments)


def up(fleet: Fleet, hosts: t.Sequence[str]) -> None:
    """Start hosts. Raises HostsError."""
    wanted = dict(word.partition("=")[::2] for word in hosts)
    if bad := [f"{name}={kind}" for name, kind in wanted.items() if not name or kind not in images.KINDS]:
        raise HostsError(f"{', '.join(bad)}: write NAME=KIND with one of the kinds {', '.join(images.KINDS)}.")
    began = time.monotonic()
    fleet.up(wanted)
    for host in fleet.hosts.values():
        say(f"{host.name:<10} {host.kind:<6} {host.address}")
    say(f"{fleet.inventory} ({time.monotonic() - began:.1f} s)")


def main(arguments: t.Sequence[str]) -> int:
    """Do what the command line asks; the exit status."""
    options = parse(arguments)
    try:
        if options.command == "clean":
            Podman(images.cache() / "podman").remove()
            shutil.rmtree(images.cache(), ignore_errors=True)
            return 0
        fleet = Fleet(options.directory.resolve())
        if options.command == "ssh":
            if options.host not in fleet.hosts:
                raise HostsError(f"There is no {options.host}: choose one of {', '.join(fleet.hosts)}.")
            words = [*fleet.hosts[options.host].ssh(), *options.words]
            os.execvp(words[0], words)
        if options.command == "up":
            up(fleet, options.hosts)
        else:
            fleet.down()
    except HostsError as error:
        sys.stderr.write(f"hosts: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
