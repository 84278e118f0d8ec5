"""Files, as docs/clients.md has them: an addition to the client, for those who send any."""
import asyncio
import json
import time
import uuid
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .client import Client
from .sync import Refused

BUSY = ("media_busy", "idempotency_key_in_use")


async def upload(client: Client, chat_id: str, file_name: str, content: bytes, content_type: str | None = None) -> str:
    """Brings a file to the store and has it looked into; gives the `media_id` that `send` takes among `attachments`."""
    wanted = {"chat_id": chat_id, "file_name": file_name, "content_type": content_type, "size_bytes": len(content)}
    known = {name: value for name, value in wanted.items() if value is not None}
    # Without the key each try would begin another upload.
    begun = await _ask_gateway(client, "/v1/media", known, {"Idempotency-Key": str(uuid.uuid4())})
    whole, size = begun["upload"], begun["upload"]["part_bytes"] or len(content)
    for at, part in enumerate(whole["parts"] or [whole]):
        await asyncio.to_thread(_ask, "PUT", part["url"], content[at * size : (at + 1) * size], whole["headers"])
    await _ask_gateway(client, f"/v1/media/{begun['media_id']}/complete", {}, {})
    return begun["media_id"]


async def _ask_gateway(client: Client, path: str, body: dict[str, Any], more: dict[str, str]) -> Any:
    headers = {"Authorization": f"Bearer {await client.get_token()}", "Content-Type": "application/json"} | more
    return await asyncio.to_thread(_ask, "POST", client.urls[0].rstrip("/") + path, json.dumps(body).encode(), headers)


def _ask(method: str, url: str, body: bytes, headers: dict[str, str]) -> Any:
    """One request. Blocks: it is for a thread of its own. What is refused for now, or gets no answer, is asked again."""
    for pause in (0.5, 1, 2, 4, 8, None):
        try:
            with urlopen(Request(url, body, headers, method=method), timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except OSError as error:
            status, text = (error.code, error.read()) if isinstance(error, HTTPError) else (503, b"")
            problem = {"code": "upload_failed", "detail": str(error)} | (json.loads(text) if text[:1] == b"{" else {})
            if pause is None or not (status in (429, 500, 502, 503, 504) or problem["code"] in BUSY):
                raise Refused(problem["code"], problem["detail"]) from error
            time.sleep(max(pause, problem.get("retry_after_ms", 0) / 1_000))
