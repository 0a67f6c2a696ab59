"""The API of `INTERFACES.md` section 5, over a socket."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from fastapi.openapi.models import OpenAPI
from numpy.typing import NDArray

from deployments.endpoint.answers import Health, JobAnswer, Problem
from deployments.endpoint.keys import Keys
from deployments.endpoint.server import bind
from deployments.endpoint.settings import EndpointSettings
from tasks.contracts import (
    STEMS,
    AudioPolicy,
    SeparationJob,
    SeparationSettings,
    SourceAudio,
    TrackRef,
)
from tasks.normalize import normalize
from tasks.separation import LocalSeparator, find_model
from tasks.separation.request import SeparationRequest
from tests.endpoint.conftest import Runner
from tests.endpoint.house import RATE, Client, Endpoint, audio, held_device, until

HALF_SECOND = audio(0.5)


@pytest.fixture(scope="module")
def complete(shared: Endpoint) -> dict[str, Any]:
    """A job with its four stems."""
    made = shared.client.submit(HALF_SECOND, stems="4", format="wav")
    assert made.status_code == 202
    return shared.client.ended(made.json()["job_id"])


def read(content: bytes) -> tuple[NDArray[np.float64], int]:
    samples, rate = soundfile.read(io.BytesIO(content), always_2d=True)
    return samples, int(rate)


def detail(answer: httpx.Response) -> str:
    """Every error is JSON with one sentence or two."""
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()["detail"]
    assert isinstance(said, str)
    assert said.endswith(".")
    return said


def test_a_submit_is_answered_with_a_job(client: Client) -> None:
    answer = client.submit(HALF_SECOND, stems="4", format="flac")
    assert answer.status_code == 202
    job = answer.json()
    SeparationJob.model_validate(job)
    assert job["status"] in ("queued", "processing")
    assert job["stems"] is None
    assert job["error_message"] is None
    assert job["model"] == "tiny"
    assert job["duration_s"] == 0.5
    client.ended(job["job_id"])


def test_stems_are_what_local_separation_makes_of_the_same_file(
    client: Client, complete: dict[str, Any], models_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "song.flac"
    file.write_bytes(HALF_SECOND)
    ref = TrackRef(source=str(file), kind="file")
    source = SourceAudio(ref=ref, path=file, in_scratch=False, bytes=file.stat().st_size)
    mixture = normalize(source, tmp_path / "local", AudioPolicy())
    local = LocalSeparator(find_model("tiny", models_dir=models_dir)).separate(
        SeparationRequest(mixture, tmp_path / "local", SeparationSettings(model="tiny"))
    )
    assert complete["status"] == "complete"
    assert set(complete["stems"]) == set(STEMS) == set(local.stems)
    for name, url in complete["stems"].items():
        theirs, rate = read(client.ask("GET", url).content)
        ours, _ = soundfile.read(local.stems[name], always_2d=True)
        assert (rate, theirs.shape) == (RATE, (RATE // 2, 2))
        error = theirs / complete["gain"] - ours / local.gain
        assert 10 * np.log10(np.sum(ours**2) / np.sum(error**2)) >= 80


@pytest.mark.parametrize(
    ("kind", "rate", "frames"),
    [("MP3", 32_000, None), ("OGG", 48_000, 22_050), ("WAV", 22_050, 22_050)],
)
def test_any_codec_and_rate_is_taken(
    client: Client, kind: str, rate: int, frames: int | None
) -> None:
    draw = np.random.default_rng(3)
    mono = io.BytesIO()
    soundfile.write(mono, draw.normal(0, 0.1, rate // 2), rate, format=kind)
    job = client.ended(client.submit(mono.getvalue(), stems="vocals").json()["job_id"])
    assert job["status"] == "complete", job
    stem, found = read(client.ask("GET", job["stems"]["vocals"]).content)
    assert found == RATE
    assert stem.shape[1] == 2
    assert len(stem) == (frames or round(job["duration_s"] * RATE))


def test_only_the_stems_that_were_asked_for_are_made(client: Client) -> None:
    made = client.submit(HALF_SECOND, stems="vocals, drums", format="flac").json()
    job = client.ended(made["job_id"])
    assert list(job["stems"]) == ["drums", "vocals"]
    content = client.ask("GET", job["stems"]["vocals"]).content
    assert soundfile.info(io.BytesIO(content)).subtype == "PCM_24"
    assert content[:4] == b"fLaC"


def test_the_gain_undoes_what_was_done_to_an_upload_over_full_scale(client: Client) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, (RATE // 2, 2))
    levels = []
    for over, depth in ((1.0, "24"), (30.0, "24"), (30.0, "32f")):
        file = io.BytesIO()
        soundfile.write(file, samples * over, RATE, "FLOAT", format="WAV")
        made = client.submit(file.getvalue(), format="wav", bit_depth=depth).json()
        job = client.ended(made["job_id"])
        assert (job["gain"] < 1) == (over > 1)
        content = client.ask("GET", job["stems"]["bass"]).content
        assert soundfile.info(io.BytesIO(content)).subtype == (
            "FLOAT" if depth == "32f" else "PCM_24"
        )
        levels.append(read(content)[0] / job["gain"] / over)
    assert np.allclose(levels[0], levels[1], atol=1e-4)
    assert np.allclose(levels[1], levels[2], atol=1e-6)


def test_another_model_of_this_machine_can_be_asked_for(shared: Endpoint) -> None:
    client = shared.client
    job = client.ended(client.submit(HALF_SECOND, model="duo").json()["job_id"])
    assert job["model"] == "duo"
    assert list(job["stems"]) == ["vocals", "other"]
    # One model is held at a time.
    assert shared.service.engines.loaded == "duo"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stems": "vocals,kazoo"}, "The model tiny has no stem 'kazoo'; it has drums, bass"),
        ({"stems": "4", "model": "duo"}, "The model duo has no stem 'drums', 'bass'"),
        ({"stems": ","}, 'send "4", or names joined by commas'),
        ({"format": "mp3"}, "format is 'mp3': send flac or wav"),
        ({"format": "flac", "bit_depth": "32f"}, "FLAC holds no floats"),
        ({"model": "tinny"}, "There is no model named 'tinny'. It has duo, embedded, tiny."),
        ({"model": "mdx_q"}, "The model mdx_q isn't on this machine. It has duo, embedded, tiny."),
        ({"model": "../../etc/passwd"}, "There is no model named '../../etc/passwd'"),
        ({"model": "x" * 5000}, "The field 'model' is longer than 4096 bytes"),
    ],
)
def test_what_cannot_be_made_is_422(client: Client, fields: dict[str, str], said: str) -> None:
    answer = client.submit(HALF_SECOND, **fields)
    assert answer.status_code == 422
    assert said in detail(answer)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong-key", "Basic a2V5", "Bearer key-of-the-firs"],
)
@pytest.mark.parametrize("path", ["/separate", "/jobs/x", "/jobs/x/stems/vocals.wav"])
def test_without_a_valid_key_it_is_401(
    client: Client, authorization: str | None, path: str
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    method = "POST" if path == "/separate" else "GET"
    answer = client.http.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "key" in detail(answer)


def test_a_stem_needs_the_key_and_is_served_in_ranges(
    client: Client, complete: dict[str, Any]
) -> None:
    url = complete["stems"]["drums"]
    assert client.http.get(url).status_code == 401
    whole = client.ask("GET", url)
    assert whole.headers["content-type"] == "audio/wav"
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert client.ask("HEAD", url).headers["content-length"] == str(len(whole.content))
    part = client.ask("GET", url, headers={"range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    beyond = client.ask("GET", url, headers={"range": "bytes=99999999-"})
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    detail(beyond)


def test_what_a_client_has_already_is_not_sent_again(
    client: Client, complete: dict[str, Any]
) -> None:
    for path in (complete["stems"]["drums"], f"/v1/jobs/{complete['job_id']}"):
        etag = client.ask("GET", path).headers["etag"]
        for known in (etag, f'W/{etag}, "another"', "*"):
            for method in ("GET", "HEAD"):
                again = client.ask(method, path, headers={"if-none-match": known})
                assert (again.status_code, again.content) == (304, b"")
                assert again.headers["etag"] == etag
        changed = client.ask("GET", path, headers={"if-none-match": '"another"'})
        assert changed.status_code == 200
        assert changed.content
        # Whose it is comes first.
        assert client.http.get(path, headers={"if-none-match": etag}).status_code == 401


def test_stems_have_tags_of_their_own_and_a_job_another_one_as_it_goes_on(shared: Endpoint) -> None:
    client = shared.client
    with held_device():
        path = f"/v1/jobs/{client.submit(HALF_SECOND).json()['job_id']}"
        waiting = client.ask("GET", path).headers["etag"]
    job = client.ended(path.rsplit("/", 1)[1])
    paths = [path, *job["stems"].values()]
    tags = [client.ask("HEAD", one).headers["etag"] for one in paths]
    assert len({waiting, *tags}) == 6


def test_a_broken_download_goes_on_where_the_stem_is_the_same(
    client: Client, complete: dict[str, Any]
) -> None:
    url = complete["stems"]["drums"]
    etag = client.ask("HEAD", url).headers["etag"]
    for tag, status in ((etag, 206), ('"another"', 200)):
        answer = client.ask("GET", url, headers={"range": "bytes=100-", "if-range": tag})
        assert answer.status_code == status


def test_head_is_answered_wherever_get_is_and_a_wrong_method_is_told_the_right_ones(
    client: Client, complete: dict[str, Any]
) -> None:
    document = client.http.get("/openapi.json").json()
    of_job = {"job_id": complete["job_id"], "file": "vocals.wav"}
    paths = {"/openapi.json": {"get"}} | document["paths"]
    under_v1 = {f"/v1{path}": paths[path] for path in document["paths"] if path != "/metrics"}
    for pattern, documented in (paths | under_v1).items():
        path = pattern.format(**of_job)
        taken = {method.upper() for method in documented} | (
            {"HEAD"} if "get" in documented else set()
        )
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - taken:
            answer = client.ask(method, path)
            assert answer.status_code == 405, (method, path)
            assert answer.headers["allow"] == ", ".join(sorted(taken))
            if method != "HEAD":
                assert detail(answer).startswith(f"{method} isn't taken here. Send ")
        if "HEAD" in taken:
            whole, head = client.ask("GET", path), client.ask("HEAD", path)
            assert (head.status_code, head.content) == (200, b"")
            kept = (
                ("content-type", "etag")
                if path == "/metrics"
                else ("content-type", "etag", "content-length")
            )
            for name in kept:
                assert head.headers.get(name) == whole.headers.get(name), (name, path)
    refused = client.http.head(f"/v1/jobs/{complete['job_id']}")
    assert (refused.status_code, refused.content) == (401, b"")


@pytest.mark.parametrize("content", [HALF_SECOND, b"a short one"])
def test_audio_in_a_part_of_another_name_is_told_which_one(client: Client, content: bytes) -> None:
    files = {"file": ("song.flac", content)}
    answer = client.ask("POST", "/v1/separate", files=files)
    assert answer.status_code == 422
    assert detail(answer) == "The file came in a part named 'file'. Name that part audio."


def test_a_file_beside_the_audio_is_passed_over(client: Client) -> None:
    files = {"cover": ("cover.png", b"png"), "audio": ("song.flac", HALF_SECOND)}
    answer = client.ask("POST", "/v1/separate", files=files)
    assert answer.status_code == 202
    client.ended(answer.json()["job_id"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/jobs/0123456789abcdef", 404),
        ("GET", "/v1/jobs/..%2f..%2fetc", 404),
        ("DELETE", "/v1/jobs/0123456789abcdef", 404),
        ("GET", "/v1/jobs/0123456789abcdef/stems/vocals.wav", 404),
        ("GET", "/nothing/here", 404),
        ("GET", "/v1/separate", 405),
        ("PUT", "/v1/jobs/0123456789abcdef", 405),
    ],
)
def test_what_is_not_there_says_so_in_json(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = client.ask(method, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"detail"}


@pytest.mark.parametrize("name", ["kazoo.wav", "vocals.flac", "..%2fupload", "vocals"])
def test_only_the_stems_of_a_job_are_served(
    client: Client, complete: dict[str, Any], name: str
) -> None:
    assert client.ask("GET", f"/v1/jobs/{complete['job_id']}/stems/{name}").status_code == 404


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>not a song</html>" * 50, "It is no audio file of any known format."),
        (b"", "The file is empty."),
        (b"RIFF\x10\x00\x00\x00WAVEjunk", "begins like a WAV file"),
    ],
)
def test_what_is_not_audio_is_415(client: Client, content: bytes, said: str) -> None:
    answer = client.submit(content, filename="secret-title.wav")
    assert answer.status_code == 415
    assert said in detail(answer)


def test_a_body_that_is_no_form_is_415(client: Client) -> None:
    answer = client.ask("POST", "/separate", json={"url": "file:///etc/passwd"})
    assert answer.status_code == 415
    assert "multipart/form-data" in detail(answer)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"--b\r\nContent-Disposition: form-data; name=stems\r\n\r\n4\r\n--b--\r\n", 422),
        (b"--b\r\nContent-Disposition: form-data; name=audio; filename=a\r\n\r\nxx", 400),
        (b"no boundary anywhere", 400),
        (b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n" * 17 + b"--b--\r\n", 400),
        (b"--b\r\nContent-Disposition: form-data; name=audio\r\n\r\n1\r\n" * 2 + b"--b--\r\n", 422),
    ],
)
def test_a_malformed_form_is_refused(client: Client, body: bytes, status: int) -> None:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.ask("POST", "/separate", content=body, headers=kind)
    assert answer.status_code == status
    detail(answer)


def test_damage_inside_a_file_fails_the_job_in_words(client: Client, shared: Endpoint) -> None:
    cut = HALF_SECOND[: len(HALF_SECOND) // 2]
    job = client.ended(client.submit(cut, filename="my song.flac").json()["job_id"])
    assert job["status"] == "failed"
    assert job["stems"] is None
    said = job["error_message"]
    assert "could be decoded" in said
    assert "Fetch or export the file again." in said
    assert str(shared.service.settings.data) not in said
    assert "Traceback" not in said


def test_a_repeated_submit_returns_the_first_job(client: Client) -> None:
    first = client.submit(HALF_SECOND, idempotency_key="once", stems="vocals")
    again = client.submit(HALF_SECOND, idempotency_key="once", stems="vocals")
    assert first.status_code == again.status_code == 202
    assert first.json()["job_id"] == again.json()["job_id"]


def test_an_idempotency_key_is_good_for_one_thing_only(client: Client) -> None:
    client.submit(HALF_SECOND, idempotency_key="taken", stems="vocals")
    for content, stems in ((audio(0.4), "vocals"), (HALF_SECOND, "drums")):
        answer = client.submit(content, idempotency_key="taken", stems=stems)
        assert answer.status_code == 422
        assert "Idempotency-Key was used for other audio or other fields" in detail(answer)
    too_long = client.submit(HALF_SECOND, idempotency_key="x" * 256)
    assert too_long.status_code == 422


def test_submits_at_once_under_one_key_make_one_job(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: client.submit(HALF_SECOND, idempotency_key="race"), range(8))
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1


def test_jobs_belong_to_the_key_that_made_them(
    client: Client, shared: Endpoint, complete: dict[str, Any]
) -> None:
    other = shared.as_other()
    at = f"/v1/jobs/{complete['job_id']}"
    for method, path in (("GET", at), ("DELETE", at), ("GET", complete["stems"]["drums"])):
        assert other.ask(method, path).status_code == 404
    mine = client.submit(HALF_SECOND, idempotency_key="mine").json()["job_id"]
    theirs = other.submit(HALF_SECOND, idempotency_key="mine").json()["job_id"]
    assert mine != theirs
    assert client.ask("GET", at).status_code == 200


def test_a_forgotten_job_is_gone_whatever_it_was_doing(shared: Endpoint) -> None:
    client = shared.client
    done = client.ended(client.submit(HALF_SECOND).json()["job_id"])
    with held_device():
        in_hand = client.submit(HALF_SECOND).json()
        client.wait_for(in_hand["job_id"], "processing")
        waiting = client.submit(HALF_SECOND).json()
        assert client.job(waiting["job_id"])["queue_position"] == 0
        for job in (done, in_hand, waiting):
            answer = client.ask("DELETE", f"/v1/jobs/{job['job_id']}")
            assert (answer.status_code, answer.content) == (204, b"")
            assert client.ask("GET", f"/v1/jobs/{job['job_id']}").status_code == 404
        assert client.ask("GET", done["stems"]["drums"]).status_code == 404
        # The device is still held: the job in hand let go of its wait for it.
        until(lambda: shared.service.worker.in_hand is None or None, "the job in hand to stop")
    # The worker goes on with the next one, and nothing of the three is left on the disk.
    client.ended(client.submit(HALF_SECOND).json()["job_id"])
    kept = {folder.name for folder in (shared.service.settings.data / "jobs").iterdir()}
    assert not kept & {done["job_id"], in_hand["job_id"], waiting["job_id"]}


def test_stem_urls_are_where_the_caller_asked(client: Client, complete: dict[str, Any]) -> None:
    at = f"/jobs/{complete['job_id']}"
    where = str(client.http.base_url).rstrip("/")
    stem = f"{at}/stems/bass.wav"
    assert client.ask("GET", f"/v1{at}").json()["stems"]["bass"] == f"{where}/v1{stem}"
    assert client.ask("GET", at).json()["stems"]["bass"] == f"{where}{stem}"
    proxied = client.ask(
        "GET", at, headers={"host": "stems.example.org", "x-forwarded-proto": "https"}
    )
    assert proxied.json()["stems"]["bass"] == f"https://stems.example.org{stem}"


def test_a_public_url_is_taken_at_its_word(start: Runner) -> None:
    with start(public_url="https://gpu.example.org/sep/v1") as endpoint:
        client = endpoint.client
        job = client.ended(client.submit(HALF_SECOND, stems="bass").json()["job_id"])
        at = f"https://gpu.example.org/sep/v1/jobs/{job['job_id']}/stems/bass.wav"
        assert job["stems"] == {"bass": at}


def test_without_keys_anybody_may_ask(start: Runner) -> None:
    with start(keys=Keys()) as endpoint:
        files = {"audio": ("song.flac", HALF_SECOND)}
        made = endpoint.client.http.post("/v1/separate", files=files)
        assert made.status_code == 202
        assert endpoint.client.http.get(f"/v1/jobs/{made.json()['job_id']}").status_code == 200


def test_health_needs_no_key(client: Client) -> None:
    for path in ("/healthz", "/v1/healthz"):
        answer = client.http.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_the_openapi_document_is_valid_and_says_it_all(client: Client) -> None:
    document = client.http.get("/openapi.json").json()
    OpenAPI.model_validate(document)
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {
        ("post", "/separate"),
        ("get", "/jobs/{job_id}"),
        ("delete", "/jobs/{job_id}"),
        ("get", "/jobs/{job_id}/stems/{file}"),
        ("get", "/healthz"),
        ("get", "/metrics"),
    }
    assert all(operation.get("description") for operation in operations.values())
    submit = operations["post", "/separate"]
    assert set(submit["responses"]) >= {"202", "401", "413", "415", "422", "429", "503"}
    form = submit["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"audio", "stems", "format", "model"} <= set(form["properties"])
    schemas = document["components"]["schemas"]
    for shape in (JobAnswer, Problem, Health):
        for example in schemas[shape.__name__]["examples"]:
            assert set(example) == set(shape.model_validate(example).model_dump())
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(found := node.get("$ref"), str):
            yield found
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off only where the socket names its protocol."""
    with bind(EndpointSettings(data=Path("unused"), port=0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP
