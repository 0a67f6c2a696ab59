"""Feeds (RSS, Atom, XSPF): the tracks that one lists, with its titles, dates and authors.

yt-dlp reads RSS too, but of an item only its title, and nothing of what the feed says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin
from xml.etree import ElementTree

from tasks.errors import CatalogError
from tasks.sources.kinds import Row
from tasks.sources.suffixes import is_audio, is_web

_ROOT = re.compile(rb"<(?:[\w.-]+:)?(?:rss|rdf|feed|playlist)[\s>]", re.IGNORECASE)
_HEAD_BYTES = 4096
_ITEMS = ("item", "entry", "track")
_AUTHORS = ("creator", "author")
_DATES = ("pubdate", "published", "date", "updated")
_MEDIA = ("audio/", "video/")
_NOT_MEDIA = ("image/", "text/", "application/pdf")
_MAILBOX = re.compile(r"\S+@\S+\s*\((?P<name>.+)\)")


@dataclass(frozen=True, slots=True)
class Document:
    """What a server answered, and the address that it came from in the end."""

    url: str
    body: bytes


def is_feed(document: Document) -> bool:
    """Tell whether an XML document is a feed, by its outermost element."""
    return _ROOT.search(document.body[:_HEAD_BYTES]) is not None


def tracks_of(document: Document) -> Iterator[Row]:
    """The tracks in a feed's order: the audio of each entry, or else the page that it leads to.

    Raises:
        CatalogError: It isn't sound XML, or lists nothing that can be fetched.
    """
    try:
        root = ElementTree.fromstring(document.body.lstrip())
    except ElementTree.ParseError as error:
        raise CatalogError(
            f"the feed isn't sound XML: {error}.", remedy="Tell whoever publishes it."
        ) from error
    items = [each for each in root.iter() if _name(each) in _ITEMS]
    if not items:
        raise CatalogError("the feed is empty: it has no entry.", remedy="Check its address.")
    shared = _shared(root)
    found = False
    for item in items:
        if url := _address(item, document.url):
            found = True
            fields = {name: text or shared.get(name, "") for name, text in _fields(item).items()}
            yield Row(url, fields={name: text for name, text in fields.items() if text})
    if not found:
        raise CatalogError(
            f"none of the feed's {len(items)} entries leads to audio or to a page.",
            remedy="Check its address.",
        )


def _shared(root: ElementTree.Element) -> dict[str, str]:
    """What a feed says of all that it lists; a playlist's own title and maker say nothing of it."""
    if _name(root) == "playlist":
        return {}
    channel = next((each for each in root if _name(each) == "channel"), root)
    return {"artist": _author(channel), "album": _text(channel, "title")}


def _fields(item: ElementTree.Element) -> dict[str, str]:
    return {
        "title": _text(item, "title"),
        "artist": _author(item),
        "album": _text(item, "album"),
        "date": _date(_text(item, *_DATES)),
    }


def _address(item: ElementTree.Element, base: str) -> str:
    located = [each.text or "" for each in item if _name(each) == "location"]
    for link in located if _name(item) == "track" else (*_media(item), *_links(item)):
        url = urljoin(base, link.strip())
        if is_web(url):
            return url
    return ""


def _media(item: ElementTree.Element) -> Iterator[str]:
    """The addresses of an entry's audio: an attachment by its type, or without one by its name."""
    for each in item.iter():
        kind = each.get("type", "").lower()
        attached = _name(each) == "enclosure" or each.get("rel") == "enclosure"
        url = each.get("url") or each.get("href") or ""
        if _name(each) not in ("enclosure", "content", "link") or not url:
            continue
        typed = kind.startswith(_MEDIA) or each.get("medium") in ("audio", "video")
        if typed or (attached and (is_audio(url) or not kind.startswith(_NOT_MEDIA))):
            yield url


def _links(item: ElementTree.Element) -> Iterator[str]:
    for each in item:
        if _name(each) == "link" and each.get("rel", "alternate") == "alternate":
            yield each.get("href") or each.text or ""


def _author(element: ElementTree.Element) -> str:
    """Whom it is by: a name, also where RSS has `mail@address (name)` and Atom a `<name>`."""
    for each in element:
        if _name(each) in _AUTHORS and (text := _text(each, "name") or _said(each)):
            mailbox = _MAILBOX.fullmatch(text)
            return mailbox["name"] if mailbox else text
    return ""


def _text(element: ElementTree.Element, *names: str) -> str:
    """The text of the first of these children that has one, asked for in this order."""
    texts = ((_said(each) for each in element if _name(each) == name) for name in names)
    return next((text for found in texts for text in found if text), "")


def _said(element: ElementTree.Element) -> str:
    return " ".join((element.text or "").split())


def _name(element: ElementTree.Element) -> str:
    """An element's name, without its namespace: feeds differ in those more than in names."""
    return str(element.tag).rpartition("}")[2].lower()


def _date(text: str) -> str:
    """A day as YYYY-MM-DD, from RSS's way to write it or Atom's; another way stays as it is."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return read(text).date().isoformat()
        except (ValueError, TypeError):
            continue
    return text
