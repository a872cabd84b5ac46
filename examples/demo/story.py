# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story that `make demo` tells: r1 serves, r2 lands under traffic, r3 fails and goes back by itself."""

from __future__ import annotations

import base64
import dataclasses
import json
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import psycopg2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import traffic
from .world import ROOT, USERS, World


@dataclasses.dataclass(frozen=True)
class Run:
    """One deploy: when it ran, how the command ended, and what its journal says."""

    release: str
    outcome: str
    began: float
    ended: float
    exit_code: int
    report: str

    @property
    def seconds(self) -> float:
        """How long the command took."""
        return round(self.ended - self.began, 1)


def ansible(world: World, playbook: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[bytes]:
    """Run a playbook of the repository on the demo's inventory; its output goes where ours goes."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), playbook, "-i", "inventories/demo", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**world.environment, **changes}, stdin=subprocess.DEVNULL, check=False)


def deploy(world: World, release: str, *arguments: str, **changes: str) -> Run:
    """Deploy a release and read from the newest journal how it ended."""
    began = time.time()
    finished = ansible(world, "deploy.yml", "-e", f"deploy_version={release}", *arguments, **changes)
    return Run(release, newest_outcome(world), began, time.time(), finished.returncode, newest_report(world))


def journals(world: World) -> list[Path]:
    """The journals of all runs, oldest first."""
    return sorted(path for path in (world.home / "state" / "runs").glob("*.jsonl"))


def newest_outcome(world: World) -> str:
    """The outcome of the newest run; "" where it has none."""
    found = journals(world)
    records = [json.loads(line) for line in found[-1].read_text(encoding="utf-8").splitlines()] if found else []
    return next((str(record["outcome"]) for record in reversed(records) if record["kind"] == "outcome"), "")


def newest_report(world: World) -> str:
    """The HTML report of the newest run; "" where it has none."""
    found = journals(world)
    path = world.home / "state" / "reports" / f"{found[-1].stem}.html" if found else Path()
    return str(path) if path.is_file() else ""


class Traffic:
    """The constant requests of a demo, in a process of their own."""

    def __init__(self, world: World, *, rate: int = 100) -> None:
        self.output = world.home / "traffic.jsonl"
        command = [sys.executable, "-m", "demo.traffic", "--url", world.state["url"], "--rate", str(rate), "--users", str(USERS), "--output", str(self.output)]
        self._process = subprocess.Popen(command, cwd=ROOT, env=world.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def stop(self) -> list[traffic.Record]:
        """End it and return what each request got."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)
        return traffic.read_records(self.output)


def token_figures(world: World) -> dict[str, int]:
    """{total, encrypted, verified, clear_left} of the credentials, read as an application would: each ciphertext is decrypted and compared."""
    cipher = AESGCM(base64.urlsafe_b64decode(world.state["token_encryption_key"]))
    figures = {"total": 0, "encrypted": 0, "verified": 0, "clear_left": 0}
    connection = psycopg2.connect(world.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT token, token_encrypted, token_nonce FROM credentials WHERE token IS NOT NULL OR token_encrypted IS NOT NULL")
        for clear, ciphertext, nonce in cursor:
            good = ciphertext is not None and _decrypts(cipher, bytes(nonce), bytes(ciphertext), clear)
            figures["total"] += 1
            figures["encrypted"] += ciphertext is not None
            figures["verified"] += good
            figures["clear_left"] += not good
    connection.close()
    return figures


def _decrypts(cipher: AESGCM, nonce: bytes, ciphertext: bytes, clear: str | None) -> bool:
    try:
        return clear in (None, cipher.decrypt(nonce, ciphertext, None).decode())
    except InvalidTag:
        return False


def tell(world: World) -> int:
    """Run the whole story; the exit code is 0 where each release ended as it should."""
    say("PostgreSQL, Valkey, Caddy, supervisor and a local OAuth provider start ...")
    world.create()
    say("\n1. calendar-api r1 goes live; 50,000 users, their tokens in clear text.\n")
    runs = [deploy(world, "r1")]
    say("\nFrom here on 100 requests a second arrive.\n\n2. r2 brings encrypted tokens and a unique constraint.\n")
    requests = Traffic(world)
    runs.append(deploy(world, "r2"))
    say("\n3. r3 has a bug that no private probe sees.\n")
    runs.append(deploy(world, "r3"))
    records = requests.stop()
    summary = summarise(world, runs, records)
    (world.home / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    show(summary, records)
    expected = ["deployed", "deployed", "rolled_back"]
    return 0 if [run.outcome for run in runs] == expected and summary["tokens"]["clear_left"] == 0 else 1


def summarise(world: World, runs: list[Run], records: list[traffic.Record]) -> dict[str, t.Any]:
    """The content of .demo/summary.json."""
    rows = []
    for run in runs:
        figures = traffic.summarise(records, since=run.began, until=run.ended)
        rows.append(
            {
                "release": run.release,
                "outcome": run.outcome,
                "seconds": run.seconds,
                "requests": figures["requests"],
                "failed": figures["failed"],
                "report": run.report,
            }
        )
    return {"runs": rows, "tokens": token_figures(world), "url": world.state["url"]}


def show(summary: dict[str, t.Any], records: list[traffic.Record]) -> None:
    """The short table at the end."""
    say(f"\n{'release':<9}{'outcome':<14}{'seconds':>8}{'requests':>10}{'failed':>8}")
    for run in summary["runs"]:
        say(f"{run['release']:<9}{run['outcome']:<14}{run['seconds']:>8.1f}{run['requests']:>10,}{run['failed']:>8,}")
    figures = traffic.summarise(records)
    say(f"\nrequests  {figures['requests']:,}, by release {figures['by_release']}, by status {figures['by_status']}")
    say(f"latency   p50 {figures['p50_ms']} ms, p95 {figures['p95_ms']} ms, p99 {figures['p99_ms']} ms")
    tokens = summary["tokens"]
    say(f"tokens    {tokens['encrypted']:,} of {tokens['total']:,} encrypted, {tokens['verified']:,} verified, {tokens['clear_left']:,} left")
    say(f"address   {summary['url']}   (make demo-stop removes everything)")
    say(f"report    {summary['runs'][-1]['report']}")


def say(text: str) -> None:
    """Print at once, between the lines of the commands."""
    print(text, flush=True)


__all__ = ("Run", "Traffic", "ansible", "deploy", "journals", "newest_outcome", "summarise", "tell", "token_figures")
