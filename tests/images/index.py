"""A package index of a company: its own certificate, a password, and the public packages."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER = "reader"
PASSWORD = token_hex(16)
PUBLIC = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"


@dataclass
class Index:
    """A running index: its URL with the password, its certificate, and the packages asked for."""

    url: str
    certificate: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(address: str, folder: Path) -> Iterator[Index]:
    """Answer at an address of this machine; whoever has the password is sent to the packages."""
    certificate, key = _signed(address)
    file = folder / "server.pem"
    file.write_text(key + certificate)
    login = f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
    python = [sys._base_executable, "-c", PUBLIC]  # type: ignore[attr-defined]
    public = os.environ.get("PIP_INDEX_URL") or subprocess.check_output(python, text=True).strip()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == login
            self.send_response(302 if known else 401)
            if known:
                index.asked.append(self.path.strip("/").split("/")[-1])
                self.send_header("Location", f"{public.rstrip('/')}/{index.asked[-1]}/")
            else:
                self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://{USER}:{PASSWORD}@{address}:{server.server_port}/simple"
    index = Index(url, certificate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()


def _signed(address: str) -> tuple[str, str]:
    """A certificate that only those accept who are given it, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a company's own")])
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    builder = builder.add_extension(host, False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(pem).decode(), private.decode()
