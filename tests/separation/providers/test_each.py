"""What holds for every paid service: nothing is believed unseen, and the key stays secret."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.errors import KeyRejected, ProtocolError, SettingsError
from tests.separation.providers.conftest import Case
from tests.separation.providers.test_audioshake import AudioShakeServer
from tests.separation.providers.test_fal import FalServer
from tests.separation.providers.test_lalal import OFTEN, LalalServer
from tests.separation.providers.test_music_ai import OPTIONS, MusicAiServer
from tests.separation.providers.test_replicate import ReplicateServer
from tests.separation.providers.upstream import Reply, Upstream, as_json, serving

HTML: Reply = (200, {"content-type": "text/html"}, b"<html><body>Welcome to the proxy</body>")
SUBMIT = {
    "lalal": "POST /api/v1/split/multistem/",
    "audioshake": "POST /tasks",
    "music_ai": "POST /v1/job",
    "replicate": "POST /v1/predictions",
    "fal": "POST /fal-ai/demucs",
}
FIRST = {
    "lalal": "POST /api/v1/upload/",
    "audioshake": "POST /assets",
    "music_ai": "GET /v1/upload",
    "replicate": "POST /v1/files",
    "fal": "POST /rest/storage/upload/initiate",
}
SERVERS: dict[str, Callable[[], Upstream]] = {
    "lalal": LalalServer,
    "audioshake": AudioShakeServer,
    "music_ai": MusicAiServer,
    "replicate": ReplicateServer,
    "fal": FalServer,
}
PATHS = {"lalal": "/api/v1", "music_ai": "/v1", "replicate": "/v1"}


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(name: str) -> Iterator[Upstream]:
    with serving(SERVERS[name]()) as running:
        yield running


@pytest.fixture
def each(case: Case, server: Upstream, name: str) -> Case:
    options = {"lalal": OFTEN, "music_ai": OPTIONS, "fal": {"storage_url": f"{server.api}/rest"}}
    base_url = f"{server.api}{PATHS.get(name, '')}"
    return case.at(name, base_url).with_options(options.get(name, {}))


@pytest.mark.parametrize("answer", [HTML, as_json(200, [1]), as_json(200, {}), (200, {}, b"{")])
@pytest.mark.parametrize("where", [FIRST, SUBMIT])
def test_answers_of_another_shape_are_named_and_quoted(
    each: Case, server: Upstream, name: str, where: dict[str, str], answer: Reply
) -> None:
    server.instead[where[name]] = [answer]
    with pytest.raises(ProtocolError, match=r"broke its contract.*begins"):
        each.separate()
    assert server.count(where[name]) == 1


def test_the_key_is_shown_nowhere(
    each: Case, server: Upstream, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = each.with_key("sk-very-secret")
    with caplog.at_level(logging.DEBUG), pytest.raises(KeyRejected) as caught:
        wrong.separate()
    service = wrong.provider
    shown = (
        caplog.text + str(caught.value) + repr(caught.value) + repr(service) + str(vars(service))
    )
    assert "very-secret" not in shown
    assert name in repr(service).lower().replace("musicai", "music_ai")


def test_without_a_key_nothing_is_sent(each: Case, server: Upstream) -> None:
    with pytest.raises(SettingsError, match=r"needs an API key.*engine\.api_key"):
        each.with_key("").separate()
    assert not server.calls


def test_settings_are_looked_at_without_any_audio(each: Case) -> None:
    each.provider.check(each.request(0.0).model_copy(update={"path": Path("no such file")}))


def test_its_published_address_is_the_default(each: Case) -> None:
    assert each.at(each.name, "").provider.base_url.startswith("https://")


def test_what_it_keeps_is_removed_once_settled(each: Case, server: Upstream) -> None:
    each.separate(settle=True)
    wanted = {
        "lalal": "POST .*/delete/",
        "music_ai": "DELETE .*",
        "replicate": "DELETE .*/files/.*",
    }
    if each.name in wanted:
        assert server.count(wanted[each.name]) == 1
