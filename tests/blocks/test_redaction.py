"""Once installed, no log record of the process holds a secret."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from blocks import redaction
from blocks.redaction import Redaction, install_redaction

KEY = "sk/very+secret=0123"


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a handler that was there before, on a logger two levels up, writes."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(redaction, "_redaction", Redaction())
    monkeypatch.setattr(redaction, "_installed", False)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    above = logging.getLogger("redaction_test")
    above.addHandler(handler)
    above.propagate = False
    yield stream
    above.removeHandler(handler)
    logging.setLogRecordFactory(factory)


log = logging.getLogger("redaction_test.of.a_child")


def test_without_it_a_secret_is_logged(output: io.StringIO) -> None:
    log.warning("key %s", KEY)
    assert KEY in output.getvalue()


def test_messages_and_arguments(output: io.StringIO) -> None:
    install_redaction([SecretStr(KEY)])
    log.warning("key " + KEY)
    log.warning("key %s and %r", KEY, {"header": f"Bearer {KEY}"})
    log.warning("GET /?key=%s", quote(KEY, safe=""))
    log.warning("100%% of %d", 5)
    assert output.getvalue().splitlines() == [
        "key ********",
        "key ******** and {'header': 'Bearer ********'}",
        "GET /?key=********",
        "100% of 5",
    ]


def test_exceptions_and_their_causes(output: io.StringIO) -> None:
    install_redaction([KEY])
    try:
        try:
            raise ValueError(f"rejected {KEY}")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        log.exception("it failed")
    text = output.getvalue()
    assert "ValueError: rejected ********" in text
    assert "RuntimeError: outer" in text
    assert KEY not in text


def test_an_exception_without_a_secret_is_left_to_the_handler() -> None:
    known = Redaction()
    known.add([KEY])
    try:
        raise ValueError("plain")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "m", (), info)
    assert known.filter(record)
    assert record.exc_info == info


def test_extra_fields_when_used_as_a_filter(output: io.StringIO) -> None:
    known = Redaction()
    known.add([KEY])
    record = logging.makeLogRecord({"msg": "m", "url": f"https://x/?k={KEY}"})
    known.filter(record)
    assert vars(record)["url"] == "https://x/?k=********"


def test_arguments_that_do_not_fit(output: io.StringIO) -> None:
    install_redaction([KEY])
    log.warning("no place", KEY)
    assert "********" in output.getvalue()
    assert KEY not in output.getvalue()


def test_more_secrets_can_be_added(output: io.StringIO) -> None:
    install_redaction(["first-secret"])
    install_redaction(["first-secret-and-more"])
    log.warning("first-secret first-secret-and-more")
    assert output.getvalue() == "******** ********\n"


def test_short_secrets_blot_out_no_words(output: io.StringIO) -> None:
    install_redaction(["", "a"])
    log.warning("a plain banana")
    assert output.getvalue() == "a plain banana\n"
