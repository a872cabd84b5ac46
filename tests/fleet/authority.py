# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority of the tests, which signs what a real one would, and what it would not."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEARS = datetime.timedelta(days=3650)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A certificate with its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclasses.dataclass(frozen=True)
class Authority:
    """Signs certificates of servers."""

    own: Certificate

    @classmethod
    def create(cls, now: datetime.datetime) -> Authority:
        """A new one that nobody else has signed, valid from a day before *now* on, for ten years."""
        return cls._create("lastro.deploy test authority", now, None)

    def below(self, now: datetime.datetime) -> Authority:
        """One that this one has signed: clients know its certificates only where its own comes with them."""
        return self._create("lastro.deploy intermediate authority", now, self)

    @classmethod
    def _create(cls, name: str, now: datetime.datetime, signer: Authority | None) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        signing, issuer = signer.signing if signer else (key, _name(name))
        builder = _builder(_name(name), issuer, key.public_key(), now - datetime.timedelta(days=1), now + YEARS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0 if signer else 1), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        return cls(_pem(builder.sign(signing, hashes.SHA256()), key))

    @property
    def signing(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Name]:
        """The key and the name that it signs with."""
        key = serialization.load_pem_private_key(self.own.key, password=None)
        return t.cast(ec.EllipticCurvePrivateKey, key), x509.load_pem_x509_certificate(self.own.certificate).subject

    def issue(self, name: str, now: datetime.datetime, *, days: float = 90) -> Certificate:
        """A certificate of the server *name* that ends *days* after *now*."""
        signing, issuer = self.signing
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), issuer, key.public_key(), now - datetime.timedelta(days=1), now + datetime.timedelta(days=days))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        return _pem(builder.sign(signing, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, begin: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    others = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, crl_sign=signs, **others)


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(certificate.public_bytes(serialization.Encoding.PEM), private)


__all__ = ("Authority", "Certificate")
