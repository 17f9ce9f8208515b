"""Key pairs, and a Sigstore of the tests' own: authority, certificate log and signature log.

It signs as the public instance would for whoever an issuer vouches for, and its trust configuration
is what verifies that, offline.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.protobuf import json_format
from model_signing import hashing
from model_signing._signing.sign_sigstore_pb import pae
from model_signing._signing.signing import Payload

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the tests' Sigstore")])
ALWAYS = {"start": "2020-01-01T00:00:00Z"}
ISSUER, STAMPS = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.11129.2.4.2"
MEDIA = "application/vnd.dev.sigstore."


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sign(key: Any, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


def der(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def identity_of(key: Any) -> bytes:
    return hashlib.sha256(der(key)).digest()


def key_pair(folder: Path, name: str, password: str = "") -> tuple[Path, Path]:
    """The files of a new private key and of its public key."""
    key, private = ec.generate_private_key(ec.SECP256R1()), folder / f"{name}.pem"
    locked = serialization.BestAvailableEncryption(password.encode()) if password else None
    private.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        locked or serialization.NoEncryption(),
    ))  # fmt: skip
    public = folder / f"{name}.pub"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return private, public


class Sigstore:
    """One instance, with keys of its own."""

    def __init__(self) -> None:
        self.authority, self.certificates, self.log = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(3)
        )
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        ten_years = dt.timedelta(days=3650)
        self.root = (
            self._certificate(self.authority, ten_years)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(self.authority, hashes.SHA256())
        )

    def trust(self, file: Path) -> Path:
        """Write the trust configuration of this instance."""
        root = self.root.public_bytes(serialization.Encoding.DER)
        authority = {
            "subject": {"organization": "tests", "commonName": "tests"},
            "uri": "https://fulcio.test", "validFor": ALWAYS,
            "certChain": {"certificates": [{"rawBytes": text(root)}]},
        }  # fmt: skip
        trusted = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": [authority], "timestampAuthorities": [],
            "tlogs": [published(self.log)], "ctlogs": [published(self.certificates)],
        }  # fmt: skip
        signing = {"mediaType": f"{MEDIA}signingconfig.v0.2+json", "caUrls": [], "oidcUrls": [],
                   "rekorTlogUrls": [], "tsaUrls": []}  # fmt: skip
        kind = f"{MEDIA}clienttrustconfig.v0.1+json"
        content = {"mediaType": kind, "trustedRoot": trusted, "signingConfig": signing}
        file.write_text(json.dumps(content))
        return file

    def sign(self, folder: Path, identity: str, issuer: str) -> str:
        """The signature of a folder, as the identity that an issuer vouches for."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certify(key, identity, issuer)
        statement = Payload(hashing.hash(folder)).statement.pb
        payload = json_format.MessageToJson(statement).encode()
        signature = text(sign(key, pae(payload)))
        kind = "application/vnd.in-toto+json"
        envelope = {"payload": text(payload), "payloadType": kind,
                    "signatures": [{"sig": signature}]}  # fmt: skip
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        material = {
            "certificate": {"rawBytes": text(certificate.public_bytes(serialization.Encoding.DER))},
            "tlogEntries": [self._entry(payload, signature, text(pem))],
        }
        content = {"mediaType": f"{MEDIA}bundle.v0.3+json", "dsseEnvelope": envelope}
        return json.dumps({**content, "verificationMaterial": material})

    def _certificate(self, key: Any, life: dt.timedelta) -> x509.CertificateBuilder:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(NAME if key is self.authority else x509.Name([]))
            .issuer_name(NAME)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - dt.timedelta(minutes=1))
            .not_valid_after(self.now + life)
            .add_extension(identifier, critical=False)
        )

    def _certify(self, key: Any, identity: str, issuer: str) -> x509.Certificate:
        """A certificate of ten minutes, in the log of certificates."""
        person = x509.RFC822Name if "@" in identity else x509.UniformResourceIdentifier
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key())
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        issued = x509.UnrecognizedExtension(x509.ObjectIdentifier(ISSUER), issuer.encode())
        builder = (
            self._certificate(key, dt.timedelta(minutes=10))
            .add_extension(above, critical=False)
            .add_extension(x509.SubjectAlternativeName([person(identity)]), critical=True)
            .add_extension(usage(digital_signature=True), critical=True)
            .add_extension(purpose, critical=False)
            .add_extension(issued, critical=False)
        )
        content = builder.sign(self.authority, hashes.SHA256()).tbs_certificate_bytes
        when = int(self.now.timestamp() * 1000)
        length = struct.pack("!I", len(content))[1:]
        entry = identity_of(self.authority) + length + content + b"\0\0"
        signature = sign(self.certificates, struct.pack("!BBQH", 0, 0, when, 1) + entry)
        stamp = b"\0" + identity_of(self.certificates) + struct.pack("!QH", when, 0)
        stamp += b"\x04\x03" + struct.pack("!H", len(signature)) + signature
        stamps = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        # DER: an OCTET STRING.
        value = b"\x04" + (b"\x81" if len(stamps) > 127 else b"") + bytes([len(stamps)]) + stamps
        logged = x509.UnrecognizedExtension(x509.ObjectIdentifier(STAMPS), value)
        return builder.add_extension(logged, critical=False).sign(self.authority, hashes.SHA256())

    def _entry(self, payload: bytes, signature: str, verifier: str) -> dict[str, Any]:
        """The only entry of the log of signatures, with the log's promise and proof."""
        digests = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
        signatures = [{"signature": signature, "verifier": verifier}]
        spec = {"envelopeHash": digests, "payloadHash": digests, "signatures": signatures}
        body = rfc8785.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        when, log = int(self.now.timestamp()), identity_of(self.log)
        promised = {"body": text(body), "integratedTime": when, "logID": log.hex(), "logIndex": 0}
        leaf = hashlib.sha256(b"\0" + body).digest()
        note = f"tests\n1\n{text(leaf)}\n"
        signed = text(log[:4] + sign(self.log, note.encode()))
        proof = {
            "logIndex": "0", "treeSize": "1", "rootHash": text(leaf), "hashes": [],
            "checkpoint": {"envelope": f"{note}\n\u2014 tests {signed}\n"},
        }  # fmt: skip
        promise = {"signedEntryTimestamp": text(sign(self.log, rfc8785.dumps(promised)))}
        return {
            "logIndex": "0", "logId": {"keyId": text(log)}, "integratedTime": str(when),
            "kindVersion": {"kind": "dsse", "version": "0.0.1"}, "inclusionPromise": promise,
            "inclusionProof": proof, "canonicalizedBody": text(body),
        }  # fmt: skip


def published(key: Any) -> dict[str, Any]:
    """A log as the trusted root names it."""
    details = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": ALWAYS}
    return {
        "baseUrl": "https://log.test", "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": text(der(key)), **details},
        "logId": {"keyId": text(identity_of(key))},
    }  # fmt: skip


def usage(**given: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{**dict.fromkeys(names, False), **given})
