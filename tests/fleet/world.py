# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One environment of calendar-api on real hosts: made ready for a first deploy, as a customer's hosts are."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import os
import secrets
import sys
import types
import typing as t
from pathlib import Path

import pyrage
from calendar_api.repository import build_repository

from ..hosts.fleet import USER, Fleet, Host
from .authority import Authority, Certificate

ROOT = Path(__file__).resolve().parents[2]
GROUPS: t.Mapping[str, t.Sequence[str]] = types.MappingProxyType({"primary": ("db1",), "app": ("app1", "app2"), "proxy": ("proxy1",)})
"""The hosts of an environment, by group."""
USERS = 2000
CA_CERT = "/etc/ssl/lastro-test-ca.pem"
CERTIFICATE = "/etc/caddy/site.pem"
KEY = "/etc/caddy/site.key"
ACCESS_LOG = "/var/log/caddy/calendar-api.log"
PROVIDER_PORT = 8090
PROVIDER_UNIT = f"""[Unit]
Description=OAuth provider of the tests
[Service]
User=provider
EnvironmentFile=/etc/provider.env
ExecStart=/usr/bin/python3 /opt/provider/provider.py --host 0.0.0.0 --port {PROVIDER_PORT}
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""


@dataclasses.dataclass(frozen=True)
class FleetWorld:
    """An environment in a directory: *home*/inventory.json is what inventories/fleet reads."""

    home: Path
    fleet: Fleet

    @property
    def inventory(self) -> Path:
        """What LASTRO_FLEET names."""
        return self.home / "inventory.json"

    @property
    def state(self) -> dict[str, t.Any]:
        """The world's facts. Raises OSError where none was made."""
        document = json.loads(self.inventory.read_text(encoding="utf-8"))
        return t.cast(dict[str, t.Any], document["all"]["vars"]["fleet_state"])

    def hosts(self, *groups: str) -> list[Host]:
        """The hosts of *groups*, by default all of this world: other hosts of the fleet are not its own. Each comes once."""
        named = self.state["hosts"]
        return [self.fleet.hosts[name] for name in dict.fromkeys(name for group in groups or named for name in named[group])]

    @property
    def primary(self) -> Host:
        """The host with lock, journal, database, Redis and the OAuth provider."""
        return self.hosts("primary")[0]

    @property
    def proxy(self) -> Host:
        """The host with Caddy."""
        return self.hosts("proxy")[0]

    @property
    def environment(self) -> dict[str, str]:
        """What commands of this world run with."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "examples"), "LASTRO_FLEET": str(self.inventory)}

    @property
    def authority(self) -> Authority:
        """Who signed the proxy's certificate."""
        return Authority(Certificate(*(text.encode() for text in json.loads((self.home / "authority.json").read_text(encoding="utf-8")))))

    @property
    def ca_file(self) -> Path:
        """The authority's certificate, for clients on this machine."""
        return self.home / "ca.pem"

    @classmethod
    def create(
        cls,
        home: Path,
        fleet: Fleet,
        *,
        environment: str = "prod",
        groups: t.Mapping[str, t.Sequence[str]] = GROUPS,
        users: int = USERS,
        variables: t.Mapping[str, t.Any] | None = None,
    ) -> FleetWorld:
        """Make the hosts of *groups* ready for *environment*, whose inventory says *variables* beside those of inventories/fleet. Raises HostsError."""
        world = cls(home, fleet)
        home.mkdir(mode=0o700, parents=True)
        build_repository(home / "repository")
        authority = Authority.create(now())
        _put(home / "authority.json", json.dumps([authority.own.certificate.decode(), authority.own.key.decode()]))
        _put(world.ca_file, authority.own.certificate.decode())
        _put(world.inventory, json.dumps(_inventory(world, _facts(world, environment, groups, users), variables or {}), indent=1))
        _make_primary(world)
        for host in world.hosts("app"):
            host.sh("useradd --system --no-create-home --shell /usr/sbin/nologin calendar")
        for host in world.hosts():
            put_there(host, CA_CERT, authority.own.certificate.decode(), mode="644")
        world.proxy.sh("install -d -o caddy -g caddy /var/log/caddy")
        world.certify(authority.issue(world.state["name"], now()))
        return world

    def certify(self, certificate: Certificate) -> None:
        """Let the proxy serve with this certificate from now on."""
        put_there(self.proxy, CERTIFICATE, certificate.certificate.decode(), owner="caddy")
        put_there(self.proxy, KEY, certificate.key.decode(), owner="caddy")
        # Caddy takes a changed file only with a changed configuration; a restart reads all.
        self.proxy.sh("systemctl restart caddy")


def now() -> datetime.datetime:
    """This moment."""
    return datetime.datetime.now(tz=datetime.UTC)


def put_there(host: Host, path: str, text: str, *, mode: str = "600", owner: str = "root") -> None:
    """Write a file on a host."""
    script = 'umask 022; mkdir -p "${1%/*}"; umask 077; cat > "$1.new"; chown "$2" "$1.new"; chmod "$3" "$1.new"; mv "$1.new" "$1"'
    host.run("sh", "-euc", script, "sh", path, owner, mode, stdin=text)


def _put(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _make_primary(world: FleetWorld) -> None:
    host, state = world.primary, world.state
    statements = [f"CREATE ROLE calendar LOGIN PASSWORD '{state['database_password']}';", "CREATE DATABASE calendar OWNER calendar TEMPLATE template0;"]
    host.run("su", "postgres", "-c", "psql -q -v ON_ERROR_STOP=1", stdin="\n".join(statements) + "\n")
    host.sh("useradd --system --no-create-home provider")
    put_there(host, "/opt/provider/provider.py", (ROOT / "examples/calendar_api/provider.py").read_text(encoding="utf-8"), mode="644")
    variables = {name: state[name.lower()] for name in ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET")}
    put_there(host, "/etc/provider.env", "".join(f"{name}={value}\n" for name, value in variables.items()))
    put_there(host, "/etc/systemd/system/provider.service", PROVIDER_UNIT, mode="644")
    host.sh("systemctl daemon-reload; systemctl enable --now provider")
    host.sh(f"for _ in $(seq 600); do nc -z 127.0.0.1 {PROVIDER_PORT} && exit; sleep 0.1; done; journalctl -u provider >&2; exit 1")


def _inventory(world: FleetWorld, facts: dict[str, t.Any], variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    hosts, groups = world.fleet.hosts, facts["hosts"]
    # Variables of hosts: those of a group would not reach what group_vars/all says.
    named = {name: {"ansible_host": hosts[name].address, "deploy_address": hosts[name].address, **variables} for names in groups.values() for name in names}
    shared = {
        "ansible_user": USER,
        "ansible_become": True,
        "ansible_python_interpreter": "/opt/lastro/tools/bin/python",
        "ansible_ssh_common_args": " ".join(world.fleet.ssh_options()),
    }
    return {
        "_meta": {"hostvars": named},
        **{group: {"hosts": list(names)} for group, names in groups.items()},
        "calendar": {"children": list(groups), "vars": shared},
        "all": {"vars": {"fleet_state": facts}},
    }


def _facts(world: FleetWorld, environment: str, groups: t.Mapping[str, t.Sequence[str]], users: int) -> dict[str, t.Any]:
    identity = pyrage.x25519.Identity.generate()
    database = world.fleet.hosts[groups["primary"][0]]
    password = secrets.token_urlsafe(18)
    name = f"{groups['proxy'][0]}.test"
    return {
        "environment": environment,
        "root": str(ROOT),
        "repository": str(world.home / "repository"),
        "build_dir": str(world.home / "build"),
        "hosts": {group: list(names) for group, names in groups.items()},
        "users": users,
        "name": name,
        "url": f"https://{name}",
        "ca_cert": CA_CERT,
        "client_ca_cert": str(world.ca_file),
        "tls": f"{CERTIFICATE} {KEY}",
        "access_log": ACCESS_LOG,
        "database_password": password,
        "database_url": f"postgresql://calendar:{password}@{database.name}:5432/calendar",
        "controller_database_url": f"postgresql://calendar:{password}@{database.address}:5432/calendar",
        "admin_url": f"postgresql://postgres:{world.fleet.passwords['postgres']}@{database.name}:5432/calendar",
        "redis_url": f"redis://:{world.fleet.passwords['redis']}@{database.name}:6379/0",
        "oauth_base_url": f"http://{database.name}:{PROVIDER_PORT}",
        "secret_key": secrets.token_urlsafe(32),
        "token_encryption_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "google_client_id": f"{secrets.token_hex(8)}.apps.example.org",
        "google_client_secret": secrets.token_urlsafe(24),
        "backup_recipient": str(identity.to_public()),
        "backup_identity": str(identity),
    }


__all__ = ("ACCESS_LOG", "GROUPS", "ROOT", "FleetWorld", "now", "put_there")
