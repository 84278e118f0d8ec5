"""The driver: one WebSocket after another for a session, and what an application calls."""
import asyncio
import itertools
import json
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from websockets import ConnectionClosed, InvalidStatus, Subprotocol, connect

from .sync import Command, Event, Payload, Refused, Session


class Closed(Exception):
    """The client has ended. `code` is the close code that says to stay away; None if the application ended it."""
    def __init__(self, code: int | None = None) -> None:
        super().__init__("the client was closed" if code is None else f"the server said to stay away: {code}")
        self.code = code


class Client(Session):
    """A person's device. Entering waits until all chats are announced; raises Refused if the first handshake is refused."""
    def __init__(self, url: str | Sequence[str], get_token: Callable[[], Awaitable[str]], *,
                 cursors: dict[str, int] | None = None, epoch: str | None = None) -> None:  # fmt: skip
        super().__init__(cursors, epoch)
        self.urls, self.get_token = [url] if isinstance(url, str) else url, get_token
        self._end: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._finish)
        try:
            await self.in_step.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._end:
            raise self._end
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def send(self, chat_id: str, text: str, *, message_id: str | None = None, attachments: Sequence[str] = (),
                   parent_message_id: str | None = None, app_data: Payload | None = None) -> int:  # fmt: skip
        """Gives the message's `seq` once it is persisted. Sent again under its `message_id` it stays one message."""
        sent = {"chat_id": chat_id, "message_id": message_id or str(uuid.uuid4()), "content": text, "attachments": [*attachments]}
        return await self._command("send_message", sent | {"parent_message_id": parent_message_id, "app_data": app_data})

    async def edit(self, chat_id: str, message_id: str, text: str) -> int | None:
        """Gives one's own message another text; gives the edit's `seq`."""
        return await self._command("edit_message", {"chat_id": chat_id, "message_id": message_id, "content": text})

    async def delete(self, chat_id: str, message_id: str) -> int | None:
        """Deletes a message; gives the delete's `seq`, None if it was deleted already."""
        return await self._command("delete_message", {"chat_id": chat_id, "message_id": message_id})

    async def events(self) -> AsyncIterator[Event]:
        """What happens in the person's chats, in order per chat and once each. Ends with the client."""
        while not (self._end and self.shown.empty()):
            if event := await self.shown.get():
                yield event
        if not self._task.cancelled():
            raise self._end

    async def _command(self, event: str, payload: Payload) -> Any:
        if self._end:
            raise self._end
        command_id: str = payload["message_id"] if event == "send_message" else str(uuid.uuid4())
        frame = {"event": event, "id": command_id, "payload": payload}
        if len(json.dumps(frame, ensure_ascii=False, allow_nan=False).encode()) > self.frame_bytes:
            raise Refused("frame_too_big", f"A frame has at most {self.frame_bytes} bytes.")
        return await asyncio.shield(asyncio.wrap_future(self.outbox.setdefault(command_id, Command(frame)).answer))

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._end = Closed() if task.cancelled() else task.exception()
        for command in self.outbox.values():
            command.answer.set_exception(self._end)
        self.in_step.set()
        self.shown.put_nowait(None)

    async def _run(self) -> None:
        for url in itertools.cycle(self.urls):
            try:
                await self._connection(url.rstrip("/").replace("http", "ws", 1) + "/v1/ws")
            except ConnectionClosed as closed:
                if closed.rcvd and 4102 <= closed.rcvd.code <= 4199:
                    raise Closed(closed.rcvd.code) from closed
            except InvalidStatus as refused:
                status, retry_after = refused.response.status_code, refused.response.headers.get("Retry-After", "")
                if status in (400, 401, 403, 404, 405, 426) and not self.user_id:
                    problem = json.loads(refused.response.body or b"{}")
                    raise Refused(problem["code"], problem["detail"]) from refused
                await asyncio.sleep(int(retry_after) if retry_after.isdigit() else 0)
            except Exception as error:
                logging.getLogger("waltalkie").warning("no connection to %s: %r", url, error)
            await asyncio.sleep(self.lost(1_000 * time.monotonic(), random.random()) / 1_000)

    async def _connection(self, url: str) -> None:
        async with asyncio.timeout(10):
            auth = {"Authorization": f"Bearer {await self.get_token()}"}
        protocol = Subprotocol("waltalkie.v1")  # the library needn't ping: heartbeats tell a dead connection
        socket = await connect(url, subprotocols=[protocol], additional_headers=auth, ping_interval=None, close_timeout=1)
        try:
            while not self.is_dead and self.now < self.leave_at:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        frame = json.loads(await socket.recv())
                        self.receive(frame, 1_000 * time.monotonic(), random.random())
                        if frame["event"] == "token_expiring":
                            self._renewal = asyncio.create_task(self._renew())
                self.tick(1_000 * time.monotonic())
                async with asyncio.timeout(10):
                    while self.frames:
                        await socket.send(json.dumps(self.frames.popleft(), ensure_ascii=False))
        finally:
            await socket.close()

    async def _renew(self) -> None:
        self.frames.append({"event": "authenticate", "payload": {"token": await self.get_token()}})
