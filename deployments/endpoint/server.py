"""The endpoint as a process: its socket, its signals, and an end that loses no job."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from types import FrameType

import uvicorn

from deployments.endpoint.app import create_app
from deployments.endpoint.service import Service
from deployments.endpoint.settings import VERSION_PREFIX, EndpointSettings, is_loopback
from tasks.errors import SettingsError

log = logging.getLogger(__name__)

_OPEN_ANSWERS_S = 10
# Longer than clients keep an idle connection: else one closes just as the next request comes.
_KEEP_ALIVE_S = 30
_BACKLOG = 1024
_EVERYWHERE = ("", "0.0.0.0", "::")


def bind(settings: EndpointSettings) -> socket.socket:
    """A socket that listens, or the reason why not.

    Raises:
        SettingsError: The address isn't this machine's, or the port is taken.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends at once: else each answer waits 40 ms for the first
    # half of it to be acknowledged.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        return listening
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"can't listen on {host}, port {port}: {(error.strerror or str(error)).lower()}.",
            remedy="Choose another --host or --port.",
        ) from error


def base_url(settings: EndpointSettings, listening: socket.socket) -> str:
    """What clients set as `engine.base_url`."""
    if settings.public_url:
        return settings.public_url
    host = socket.gethostname() if settings.host in _EVERYWHERE else settings.host
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}{VERSION_PREFIX}"


def check_exposure(settings: EndpointSettings, *, has_keys: bool) -> None:
    """Refuse to serve strangers who need no key.

    Raises:
        SettingsError: No key, and an address that others can reach.
    """
    if not has_keys and not is_loopback(settings.host):
        raise SettingsError(
            f"without a key the endpoint listens on the loopback only, not on {settings.host}.",
            remedy="Set STEMWRIGHT_ENDPOINT_KEYS or --keys-file.",
        )


class Server(uvicorn.Server):
    """Answers until the job in hand is over: a first signal begins the end, a second hurries it.

    `ended_by` is the signal that ended it, or None.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(service),
                http="h11",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_OPEN_ANSWERS_S,
            )
        )
        self.ended_by: int | None = None
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not the parent's way, which closes the socket at once: clients still ask for the job in
        # hand, and a submit deserves its 503.
        if self.ended_by is None:
            self.ended_by = sig
            threading.Thread(target=self._wind_down, name="end", daemon=True).start()
        else:
            self._service.hurry()

    def _wind_down(self) -> None:
        name = signal.Signals(self.ended_by or 0).name
        log.info("ending", extra={"signal": name, "grace_s": self._service.settings.grace_s})
        try:
            self._service.wind_down(self._service.settings.grace_s)
        finally:
            self.should_exit = True


def serve(service: Service, listening: socket.socket) -> int | None:
    """Serve until a signal; the signal."""
    server = Server(service)
    server.run(sockets=[listening])
    return server.ended_by
