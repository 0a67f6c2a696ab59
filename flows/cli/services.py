"""How `stemwright doctor` looks at the services: asks them, and spends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.cli.findings import Finding
from tasks.errors import StemwrightError

if TYPE_CHECKING:
    from blocks.settings import StemwrightSettings
    from tasks.separation.services import CloudApi

_PATIENCE_S = 5.0
_CHECK = "cloud API"


def services(settings: StemwrightSettings) -> Iterator[Finding]:
    """A line a service: is it there, does it take the key, what is left of its budget."""
    for number, service in enumerate(settings.services):
        check = _CHECK if not number else f"{_CHECK} {number + 1}"
        try:
            yield _look(check, service, settings)
        except StemwrightError as error:
            text = f"{service.label}: {error.cause}"
            yield Finding(check=check, state="problem", text=text, fix=error.remedy)


def _look(check: str, service: CloudApi, settings: StemwrightSettings) -> Finding:
    if service.missing:
        wanted = settings.engine.provider == "cloud" or service in settings.engine.alternatives
        if wanted:
            fix = "Set its api_key, and its base_url where it has no published address."
            text = f"{service.label}: {service.missing}"
            return Finding(check=check, state="problem", text=text, fix=fix)
        return Finding(check=check, state="ok", text="not configured")
    if settings.engine.offline:
        return Finding(check=check, state="ok", text="configured; not asked (offline)")
    found = _asked(check, service)
    if found.state != "ok":
        return found
    return found.model_copy(update=_allowed(service, found))


def _asked(check: str, service: CloudApi) -> Finding:
    """Whether it answers, and whether it takes the key where that can be asked for nothing."""
    import httpx

    provider = service.make_provider()
    ours = service.service == "stemwright"
    url = f"{provider.base_url}/healthz" if ours else provider.base_url
    try:
        answer = httpx.get(url, timeout=_PATIENCE_S)
        # A job that nobody has: 404 says that the key was taken, and costs nothing.
        job = f"{provider.base_url}/jobs/doctor"
        key = httpx.get(job, headers=provider.auth(), timeout=_PATIENCE_S) if ours else None
    except httpx.HTTPError as error:
        text = f"{service.label}: {url} doesn't answer: {type(error).__name__}"
        fix = "Check engine.base_url and the network."
        return Finding(check=check, state="problem", text=text, fix=fix)
    if key is not None and key.status_code in (401, 403):
        verb = "rejects the API key" if provider.auth() else "needs an API key"
        text = f"{service.label}: {provider.base_url} {verb} ({key.status_code})"
        fix = "Set engine.api_key (or STEMWRIGHT_ENGINE__API_KEY) to a valid key."
        return Finding(check=check, state="problem", text=text, fix=fix)
    if answer.status_code >= 500 or (ours and answer.status_code >= 400):
        text = f"{service.label}: {url} answers {answer.status_code}"
        fix = "Check engine.base_url and the service."
        return Finding(check=check, state="warning", text=text, fix=fix)
    taken = "a key is set, and was not tried"
    if ours:
        taken = "it takes the key" if provider.auth() else "it needs no key"
    return Finding(check=check, state="ok", text=f"{service.label}: {url} answers; {taken}")


def _allowed(service: CloudApi, found: Finding) -> dict[str, str]:
    facts = service.facts()
    text = "; ".join(filter(None, [found.text, facts.note]))
    if not facts.paused:
        return {"text": text}
    fix = "The next engine takes over meanwhile; raise the limit to change that."
    return {"text": f"{text}; {facts.paused}", "state": "warning", "fix": fix}
