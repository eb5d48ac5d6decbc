"""Receivers of messages on loopback: an HTTP service and a mail server that keep what they are told."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest


@dataclass
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # Any: JSON
        return json.loads(self.body)


@dataclass
class Service:
    """An HTTP service; `statuses` are its next answers, the last one for ever."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    location: str = ""
    says: bytes = b"{}"
    got: list[Request] = field(default_factory=list)
    hold: threading.Event | None = None


@contextmanager
def service() -> Iterator[Service]:
    """Give an HTTP service that takes everything, until a test says otherwise."""
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.got.append(Request(self.command, self.path, dict(self.headers), body))
            if state.hold is not None:
                state.hold.wait(60)
            status = state.statuses.pop(0) if len(state.statuses) > 1 else state.statuses[0]
            self.send_response(status)
            if state.location:
                self.send_header("Location", state.location)
            self.send_header("Content-Length", str(len(state.says)))
            self.end_headers()
            self.wfile.write(state.says)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            """A client that hung up is no fault."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        if state.hold is not None:
            state.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def reroute(monkeypatch: pytest.MonkeyPatch, to: Service) -> list[str]:
    """Send what `requests` would send anywhere to the service; return the addresses it meant, as it goes."""
    import requests

    meant: list[str] = []
    send = requests.adapters.HTTPAdapter.send

    def elsewhere(self: Any, request: Any, **options: Any) -> Any:  # Any: requests' own
        meant.append(request.url)
        parts = urlsplit(request.url)
        request.url = urlunsplit(("http", urlsplit(to.url).netloc, parts.path, parts.query, ""))
        return send(self, request, **{**options, "proxies": {}})

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", elsewhere)
    return meant


@dataclass
class MailServer:
    """An SMTP server: what it got, who logged in how, and whom it refuses."""

    host: str = "127.0.0.1"
    port: int = 0
    refuses: set[str] = field(default_factory=set)
    mails: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)
    logins: list[tuple[str, bool]] = field(default_factory=list)  # what was said, and whether in clear
    certificate: Path | None = None


@contextmanager
def mail_server(folder: Path | None = None) -> Iterator[MailServer]:
    """Give an SMTP server; with a folder it offers STARTTLS under a certificate of its own kept there."""
    state = MailServer(certificate=_certificate(folder) if folder else None)

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with ExitStack() as opened, suppress(OSError, ValueError):  # a client that hangs up is no fault
                _converse(self, state, opened)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    server = Server((state.host, 0), Session)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _converse(session: socketserver.StreamRequestHandler, state: MailServer, opened: ExitStack) -> None:
    connection, lines, secure = session.connection, session.rfile, False
    sender, receivers = "", []

    def say(text: str) -> None:
        connection.sendall(text.encode() + b"\r\n")

    say("220 ready")
    while line := lines.readline():
        verb, _, rest = line.decode().strip().partition(" ")
        match verb.upper():
            case "EHLO":
                starttls = state.certificate and not secure
                say(
                    "250-here\r\n250-STARTTLS\r\n250 AUTH PLAIN" if starttls else "250-here\r\n250 AUTH PLAIN"
                )
            case "STARTTLS":
                say("220 go ahead")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(str(state.certificate))
                connection = opened.enter_context(
                    context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                )
                connection.do_handshake()
                lines, secure = opened.enter_context(connection.makefile("rb")), True
            case "AUTH":
                state.logins.append((rest, not secure))
                say("235 welcome")
            case "MAIL":
                sender, receivers = rest.partition(":")[2].split()[0].strip("<>"), []
                say("250 ok")
            case "RCPT":
                address = rest.partition(":")[2].strip("<>")
                if address in state.refuses:
                    say("550 nobody of that name")
                else:
                    receivers.append(address)
                    say("250 ok")
            case "DATA":
                say("354 go on")
                text = b""
                while (one := lines.readline()) != b".\r\n":
                    text += one.removeprefix(b".") if one.startswith(b"..") else one
                mail = message_from_bytes(text.replace(b"\r\n", b"\n"), policy=policy.default)
                assert isinstance(mail, EmailMessage)
                state.mails.append((sender, receivers, mail))
                say("250 taken")
            case "QUIT":
                say("221 bye")
                return
            case _:
                say("250 ok")


def _certificate(folder: Path) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that nobody else trusts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "mail.pem"
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem)
    )
    return path
