"""Files, as docs/clients.md has them: an addition to the client, for those who send any."""
import asyncio
import json
import uuid
from http.client import HTTPException
from math import inf
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .client import Client
from .sync import Refused

PAUSES_S = (0.5, 1, 2, 4, 8)
FOR_NOW = ("media_busy", "idempotency_key_in_use", "upload_incomplete")


class ForNow(Refused):
    """Refused for the moment, or not answered."""
    def __init__(self, code: str, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(code, message)
        self.retry_after_ms = retry_after_ms


async def upload(client: Client, chat_id: str, file_name: str, content: bytes, content_type: str | None = None, *,
                 key: str | None = None) -> str:  # fmt: skip
    """Brings a file to the store and has it looked into; gives the `media_id` that `send` takes among `attachments`. After a
    break it goes on with the parts that are missing. Where it gives up, the same again with the same `key` goes on later."""
    wanted = {"chat_id": chat_id, "file_name": file_name, "content_type": content_type, "size_bytes": len(content)}
    known = {name: value for name, value in wanted.items() if value is not None}
    once = {"Idempotency-Key": key or str(uuid.uuid4())}  # without it each try would begin another upload
    media, failures, fewest, is_there = dict[str, Any](), 0, inf, False
    while True:
        try:
            if media:  # what is missing now, with new URLs
                media = await _ask_gateway(client, "GET", f"/v1/media/{media['media_id']}")
            else:
                media = await _ask_gateway(client, "POST", "/v1/media", known, once)
            whole = media.get("upload") or {"url": None, "parts": []}
            if len(whole["parts"]) < fewest:  # parts have arrived: the row of pauses begins anew
                failures, fewest = 0, len(whole["parts"])
            if whole["url"] and not is_there:
                await asyncio.to_thread(_ask, "PUT", whole["url"], content, whole["headers"])
                is_there = True
            for part in whole["parts"]:
                size, end = whole["part_bytes"], part["part_number"] * whole["part_bytes"]
                await asyncio.to_thread(_ask, "PUT", part["url"], content[end - size : end], whole["headers"])
            await _ask_gateway(client, "POST", f"/v1/media/{media['media_id']}/complete", {})
            return media["media_id"]
        except ForNow as error:
            if failures == len(PAUSES_S):
                raise
            is_there = is_there and error.code != "upload_incomplete"
            await asyncio.sleep(max(PAUSES_S[failures], error.retry_after_ms / 1_000))
            failures += 1


async def _ask_gateway(client: Client, method: str, path: str, body: Any = None, more: dict[str, str] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {await client.get_token()}", "Content-Type": "application/json"} | (more or {})
    data = None if body is None else json.dumps(body).encode()
    return await asyncio.to_thread(_ask, method, client.urls[0].rstrip("/") + path, data, headers)


def _ask(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Any:
    """One request. Blocks: it is for a thread of its own."""
    timeout_s = 300 if method == "PUT" else 60  # all of a part has to go in that time, on a slow line too
    try:
        try:
            answer = urlopen(Request(url, body, headers, method=method), timeout=timeout_s)
        except HTTPError as refused:
            answer = refused
        with answer:
            status, text = answer.status, answer.read()
    except (OSError, HTTPException) as error:
        raise ForNow("upload_failed", str(error)) from error
    if status < 300:
        return json.loads(text or b"null")
    told = json.loads(text) if text[:1] == b"{" else {}
    code, detail = told.get("code", "upload_failed"), told.get("detail", f"A {method} was answered with {status}.")
    # The store says 403 where a URL's time is over. The gateway's refusals have a code.
    if status in (429, 500, 502, 503, 504) or code in FOR_NOW or (status == 403 and "code" not in told):
        raise ForNow(code, detail, told.get("retry_after_ms") or 0)
    raise Refused(code, detail)
