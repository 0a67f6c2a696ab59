"""What `stemwright doctor` finds: one line for each thing that it looks at."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

State = Literal["ok", "warning", "problem"]
_PATIENCE_S = 5.0


class Finding(BaseModel):
    """One line: what was looked at, how it is, and the fix where it isn't well."""

    check: str
    state: State
    text: str
    fix: str = ""


def answers(check: str, url: str, fix: str) -> Finding:
    """Whether an address answers a plain GET."""
    import httpx

    try:
        status = httpx.get(url, timeout=_PATIENCE_S).status_code
    except httpx.HTTPError as error:
        text = f"{url} doesn't answer: {type(error).__name__}"
        return Finding(check=check, state="problem", text=text, fix=fix)
    if status >= 400:
        return Finding(check=check, state="warning", text=f"{url} answers {status}", fix=fix)
    return Finding(check=check, state="ok", text=f"{url} answers")
