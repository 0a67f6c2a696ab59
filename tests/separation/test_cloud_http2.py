"""HTTP/2 where the service offers it: many requests over one connection."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.errors import NetworkError
from tasks.net.retries import RetryPolicy
from tasks.separation import SeparationApi

HASTY = RetryPolicy(max_retries=2, max_backoff_seconds=0.004)


def certificate(path: Path) -> Path:
    """A key and a certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


class Http2Service:
    """Answers every request with a job under way, and counts connections and requests."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[dict[str, str]] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    self.answer(connection, event)
            writer.write(connection.data_to_send())
        writer.close()

    def answer(
        self, connection: h2.connection.H2Connection, event: h2.events.RequestReceived
    ) -> None:
        assert event.headers is not None
        assert event.stream_id is not None
        self.requests.append({str(name): str(value) for name, value in event.headers})
        connection.send_headers(event.stream_id, [(":status", "200")])
        body = json.dumps({"job_id": "x", "status": "processing"}).encode()
        connection.send_data(event.stream_id, body, end_stream=True)


async def ask_often(service: Http2Service, context: ssl.SSLContext, times: int) -> None:
    server = await asyncio.start_server(service.connected, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        async with SeparationApi(f"https://127.0.0.1:{port}/v1", "a-key", policy=HASTY) as api:
            await api.ask("x")
            jobs = await asyncio.gather(*(api.ask("x") for _ in range(times - 1)))
            assert {job.status for job in jobs} == {"processing"}
    finally:
        server.close()


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    offered = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    offered.load_cert_chain(certificate(tmp_path / "own.pem"))
    offered.set_alpn_protocols(["h2"])
    return offered


def test_many_asks_share_one_connection(
    context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    service = Http2Service()
    asyncio.run(ask_often(service, context, 20))
    assert (service.connections, len(service.requests)) == (1, 20)
    assert {request["authorization"] for request in service.requests} == {"Bearer a-key"}


def test_a_certificate_that_nobody_vouches_for_gets_no_key(context: ssl.SSLContext) -> None:
    service = Http2Service()
    with pytest.raises(NetworkError, match=r"(?i)certificate"):
        asyncio.run(ask_often(service, context, 1))
    assert not service.requests
