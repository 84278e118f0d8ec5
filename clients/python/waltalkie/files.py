"""HTTP for files, as docs/clients.md has it: what is refused for now, or gets no answer, is asked again."""
import json
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .sync import Refused


def ask(method: str, url: str, body: bytes, headers: dict[str, str]) -> Any:
    """One request to the gateway or the store. Blocks: it is for a thread of its own."""
    for pause in (0.5, 1, 2, 4, 8, None):
        try:
            with urlopen(Request(url, body, headers, method=method), timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except OSError as error:
            status, text = (error.code, error.read()) if isinstance(error, HTTPError) else (503, b"")
            problem = {"code": "upload_failed", "detail": str(error)} | (json.loads(text) if text[:1] == b"{" else {})
            if pause is None or not (status in (429, 500, 502, 503, 504) or problem["code"] == "media_busy"):
                raise Refused(problem["code"], problem["detail"]) from error
            time.sleep(max(pause, problem.get("retry_after_ms", 0) / 1_000))
