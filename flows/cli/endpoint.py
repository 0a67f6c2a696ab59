"""`stemwright endpoint`: serves the separation API on this machine's hardware."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import options as opt
from flows.cli.console import Exit, complain, err, errors_shown, out, plain

if TYPE_CHECKING:
    from blocks.settings import StemwrightSettings
    from deployments.endpoint.engines import Engines
    from deployments.endpoint.keys import Keys
    from deployments.endpoint.settings import EndpointSettings
    from tasks.contracts import Provider

_HOUR_S = 3600.0

Host = Annotated[str, typer.Option("--host", help="Where to listen; others need a key.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 takes a free one.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help=r"Jobs and stems. \[default: endpoint/ in the state folder]",
        show_default=False,
    ),
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys-file",
        metavar="FILE",
        help="A key a line, read again when it changes.",
    ),
]
PublicUrl = Annotated[
    str,
    typer.Option(
        "--public-url",
        metavar="URL",
        help="The base URL as clients know it, behind a proxy.",
        show_default=False,
    ),
]
Queue = Annotated[int, typer.Option("--queue", metavar="N", min=1, help="Jobs that may wait.")]
MaxUpload = Annotated[
    int, typer.Option("--max-upload-bytes", metavar="N", min=1, help="Of one file.")
]
KeepHours = Annotated[
    float, typer.Option("--keep-hours", metavar="H", min=0.0001, help="Of a finished job's stems.")
]
Grace = Annotated[
    float,
    typer.Option(
        "--grace-seconds", metavar="SECONDS", min=0, help="For the job in hand, when told to end."
    ),
]


def endpoint(
    host: Host = "127.0.0.1",
    port: Port = 8765,
    model: opt.Model = "",
    models_dir: opt.ModelsDir = "",
    provider: opt.ProviderChoice = None,
    config: opt.Config = None,
    data: Data = None,
    keys_file: KeysFile = None,
    public_url: PublicUrl = "",
    queue: Queue = 64,
    max_upload_bytes: MaxUpload = 2 * 1024**3,
    keep_hours: KeepHours = 24.0,
    deadline: opt.Deadline = 0.0,
    grace_seconds: Grace = 60.0,
    offline: opt.Offline = False,
) -> None:
    """Serve the separation API on this machine's hardware, for `--provider cloud` elsewhere.

    One job at a time; jobs and stems outlive a restart. Logs are JSON lines on stderr. Clients'
    keys come from --keys-file or STEMWRIGHT_ENDPOINT_KEYS.

    Example: stemwright endpoint --model embedded --port 8765 --keep-hours 2
    """
    with errors_shown():
        from deployments.endpoint.engines import Engines
        from deployments.endpoint.keys import Keys
        from deployments.endpoint.logs import set_up_logging
        from deployments.endpoint.server import base_url, bind, check_exposure, serve
        from deployments.endpoint.service import Service
        from deployments.endpoint.settings import EndpointSettings, check_public_url
        from tasks.separation.state import state_folder

        configured = _configured(config, model, models_dir, provider, offline)
        settings = EndpointSettings(
            data=(data or state_folder() / "endpoint").expanduser().absolute(),
            host=host,
            port=port,
            public_url=check_public_url(public_url),
            queue=queue,
            max_upload_bytes=max_upload_bytes,
            max_duration_s=configured.ingest.max_duration_s,
            keep_s=keep_hours * _HOUR_S,
            deadline_s=deadline,
            grace_s=grace_seconds,
        )
        keys = Keys.from_environment(os.environ, keys_file)
        check_exposure(settings, has_keys=keys.required)
        set_up_logging(configured.logging.level)
        engines = Engines(configured.engine_options())
        with bind(settings) as listening:
            service = Service(settings, keys, engines)
            _announce(base_url(settings, listening), settings, engines, keys)
            ended_by = serve(service, listening)
    if ended_by == signal.SIGINT:
        raise typer.Exit(Exit.INTERRUPTED)


def _configured(
    config: Path | None,
    model: str,
    models_dir: str,
    provider: Provider | None,
    offline: bool,
) -> StemwrightSettings:
    from blocks.settings import load_settings
    from flows.parameters import RunControl, Separation, overrides_of
    from tasks.errors import SettingsError

    settings = load_settings(
        config,
        overrides_of(
            Separation(model=model, provider=provider or "as configured"),
            RunControl(models_dir=models_dir, offline=offline),
        ),
    )
    if settings.engine.provider == "cloud":
        raise SettingsError(
            "engine.provider is cloud, but an endpoint separates on its own hardware.",
            remedy="Use --provider auto, local_gpu or local_cpu.",
        )
    return settings


def _announce(url: str, settings: EndpointSettings, engines: Engines, keys: Keys) -> None:
    who = f"{len(keys)} key{'s' if len(keys) != 1 else ''}" if keys.required else "no key needed"
    for name, value in (
        ("base URL", url),
        ("model", engines.default.name),
        ("device", engines.device),
        ("data", settings.data),
        ("keys", who),
    ):
        out.print(f"{name:<9} {plain(value)}", markup=False)
    # A pipe is buffered, and whoever started this waits for the address.
    out.file.flush()
    if not keys.required:
        complain(
            "whoever can connect to this machine's loopback can use the endpoint.",
            "Set STEMWRIGHT_ENDPOINT_KEYS or --keys-file.",
            what="warning",
        )
    err.file.flush()
