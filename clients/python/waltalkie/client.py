"""The driver: one WebSocket after another for a session, and what an application calls."""

import asyncio
import itertools
import json
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from websockets import ConnectionClosed, InvalidStatus, Subprotocol
from websockets.asyncio.client import connect

from .sync import Command, Event, Payload, Refused, Session


class Closed(Exception):
    """The client has ended. `code` is the close code that says to stay away; None if the application ended it."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__("the client was closed" if code is None else f"the server said to stay away: {code}")
        self.code = code


class Client(Session):
    """A person's device. Entering waits until all chats are announced; raises Refused if the first handshake is refused."""

    def __init__(self, url: str | Sequence[str], get_token: Callable[[], Awaitable[str]], *,
                 cursors: Mapping[str, int] | None = None, epoch: str | None = None) -> None:  # fmt: skip
        super().__init__(cursors, epoch)
        self.connections, self._news = 0, asyncio.Event()
        self._urls, self._get_token = [url] if isinstance(url, str) else url, get_token
        self._end: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._finish)
        try:
            while not self.in_step:
                await self._next_news()
        except BaseException:
            self._task.cancel()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def send(self, chat_id: str, text: str, *, message_id: str | None = None,
                   parent_message_id: str | None = None, app_data: Payload | None = None) -> int:  # fmt: skip
        """Gives the message's `seq` once it is persisted. Sent again under its `message_id` it stays one message."""
        more = {"parent_message_id": parent_message_id, "app_data": app_data}
        payload = {"chat_id": chat_id, "message_id": message_id or str(uuid.uuid4()), "content": text}
        payload |= {key: value for key, value in more.items() if value is not None}
        return await self._answer("send_message", payload["message_id"], payload)

    async def edit(self, chat_id: str, message_id: str, text: str) -> int | None:
        """Gives one's own message another text; gives the edit's `seq`."""
        payload = {"chat_id": chat_id, "message_id": message_id, "content": text}
        return await self._answer("edit_message", str(uuid.uuid4()), payload)

    async def delete(self, chat_id: str, message_id: str) -> int | None:
        """Deletes a message; gives the delete's `seq`, None if it was deleted already."""
        return await self._answer("delete_message", str(uuid.uuid4()), {"chat_id": chat_id, "message_id": message_id})

    async def events(self) -> AsyncIterator[Event]:
        """What happens in the person's chats, in order per chat and once each. Ends with the client."""
        while self.shown or not self._end:
            if self.shown:
                yield self.shown.popleft()
            else:
                await self._next_news()

    async def _answer(self, event: str, command_id: str, payload: Payload) -> Any:
        if self._end:
            raise self._end
        return await asyncio.shield(asyncio.wrap_future(self.add(event, command_id, payload)))

    async def _next_news(self) -> None:
        if self._end:
            raise self._end
        self._news.clear()
        await self._news.wait()

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._end = Closed() if task.cancelled() else task.exception()
        for command in self.outbox.values():
            command.answer.set_exception(self._end)
        self._news.set()

    async def _run(self) -> None:
        for url in itertools.cycle(self._urls):
            least_ms = 0.0
            try:
                await self._connection(url.rstrip("/").replace("http", "ws", 1) + "/v1/ws")
            except ConnectionClosed as closed:
                if closed.rcvd and 4102 <= closed.rcvd.code <= 4199:
                    raise Closed(closed.rcvd.code) from closed
            except InvalidStatus as refused:
                response = refused.response
                if 400 <= response.status_code < 500 and response.status_code != 429 and not self.user_id:
                    problem = json.loads(response.body or b"{}")
                    raise Refused(problem["code"], problem["detail"]) from refused
                least_ms = 1_000 * float(response.headers.get("Retry-After", 0))
            except Exception as error:
                logging.getLogger("waltalkie").warning("no connection to %s: %r", url, error)
            pause_ms = self.lost(1_000 * time.monotonic(), random.random())
            await asyncio.sleep(max(least_ms, pause_ms) / 1_000)

    async def _connection(self, address: str) -> None:
        async with asyncio.timeout(10):
            headers = {"Authorization": f"Bearer {await self._get_token()}"}
        # Heartbeats tell a dead connection: the library needn't ping.
        async with connect(address, subprotocols=[Subprotocol("waltalkie.v1")], additional_headers=headers,
                           ping_interval=None, close_timeout=1) as socket:  # fmt: skip
            self.connections += 1
            while not self.is_dead and self.now < self.leave_at:
                self.tick(1_000 * time.monotonic())
                async with asyncio.timeout(10):
                    while self.frames:
                        await socket.send(json.dumps(self.frames.popleft(), ensure_ascii=False))
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        frame = json.loads(await socket.recv())
                        self.receive(frame, 1_000 * time.monotonic(), random.random())
                        self._news.set()
                        if frame["event"] == "token_expiring":
                            self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        with suppress(Exception):  # the connection ends with its token, and the next one asks again
            self.frames.append({"event": "authenticate", "payload": {"token": await self._get_token()}})
