"""The driver: one WebSocket after another around a Session, and what an application calls.

    async with Client("http://127.0.0.1:8080", get_token) as client:
        await client.send("lunch", "Noon?")
        async for event in client.events():
            ...
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from .cursor import Event
from .outbox import Command, Refused
from .session import Session

PROTOCOL = Subprotocol("waltalkie.v1")
BACKOFF_S, BACKOFF_MOST_S = 0.4, 20.0
CONNECT_WITHIN_S = WRITE_WITHIN_S = 10.0
TICK_S = 0.1
MOST_UNREAD = 10_000

log = logging.getLogger("waltalkie")


class Closed(Exception):
    """The client has ended. `code` is the close code that says to stay away; None if the application ended it."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__("the client was closed" if code is None else f"the server said to stay away: {code}")
        self.code = code


class Client:
    """A person's device.

    `url` is `http://…` or `https://…`; of several addresses each is tried in turn. `get_token` gives a token of the
    person, a fresh one each time: it is asked for every connection, and when one is about to expire. `cursors` and
    `epoch`, kept from an earlier run, say where chats go on; others begin at their head, as on a new device.

    Entering waits until all chats are announced, and raises Refused if the first handshake is refused for good.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        get_token: Callable[[], Awaitable[str]],
        *,
        cursors: Mapping[str, int] | None = None,
        epoch: str | None = None,
    ) -> None:
        self.connections = 0
        self._urls = [url] if isinstance(url, str) else list(url)
        self._get_token = get_token
        self._session = Session(cursors, epoch)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[int | None]] = {}
        self._wake = asyncio.Event()
        self._end: Closed | None = None

    @property
    def user_id(self) -> str | None:
        return self._session.user_id

    @property
    def epoch(self) -> str | None:
        return self._session.epoch

    @property
    def cursors(self) -> dict[str, int]:
        """Each chat's cursor: how far events were put up for `events()`. Keep what you have handled, not these."""
        return {chat_id: chat.cursor for chat_id, chat in self._session.chats.items()}

    async def __aenter__(self) -> Self:
        self._entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())
        try:
            await self._entered
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._finish(Closed())

    async def send(
        self,
        chat_id: str,
        text: str,
        *,
        message_id: str | None = None,
        parent_message_id: str | None = None,
        app_data: dict[str, Any] | None = None,
    ) -> int:
        """Sends a message; returns its `seq` once it is persisted, over as many connections as that takes.

        Raises Refused if the server won't have it, Closed if the client ends before: then it is unknown whether the
        message was written, and sending it again under the same `message_id` makes no second one. A caller that stops
        waiting doesn't stop the message."""
        message_id = message_id or str(uuid.uuid4())
        payload: dict[str, Any] = {"chat_id": chat_id, "message_id": message_id, "content": text}
        more = {"parent_message_id": parent_message_id, "app_data": app_data}
        payload |= {name: value for name, value in more.items() if value is not None}
        seq = await self._command(Command(message_id, "send_message", payload))
        assert seq is not None, "a persisted message has a seq"
        return seq

    async def edit(self, chat_id: str, message_id: str, text: str) -> int | None:
        """Gives one's own message another text; returns the edit's `seq`. Raises as `send` does."""
        payload = {"chat_id": chat_id, "message_id": message_id, "content": text}
        return await self._command(Command(str(uuid.uuid4()), "edit_message", payload))

    async def delete(self, chat_id: str, message_id: str) -> int | None:
        """Deletes a message; returns the delete's `seq`, None if it was deleted already. Raises as `send` does."""
        payload = {"chat_id": chat_id, "message_id": message_id}
        return await self._command(Command(str(uuid.uuid4()), "delete_message", payload))

    def mark_read(self, chat_id: str, seq: int) -> None:
        """The person has read the chat up to `seq`; told with the next marks. Delivered marks leave by themselves."""
        self._session.read(chat_id, seq)

    def typing(self, chat_id: str) -> None:
        """The person types; to be called as often as they do. Told every three seconds, and only on a connection."""
        self._session.typing(chat_id, _now_ms())
        self._wake.set()

    async def events(self) -> AsyncIterator[Event]:
        """What happens in the person's chats, in order per chat and once each; their own messages too.

        Ends with the client; raises Closed if the server said to stay away. An application that reads slowly is given
        what it missed later, and delays no sends; receipts, typing and presence are dropped then."""
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)
        if self._end and self._end.code is not None:
            raise self._end

    async def _command(self, command: Command) -> int | None:
        if self._end:
            raise self._end
        self._session.outbox.add(command)
        answer = self._answers.setdefault(command.op_id, asyncio.get_running_loop().create_future())
        self._wake.set()
        return await asyncio.shield(answer)

    async def _run(self) -> None:
        attempt = 0
        for number in itertools.count():
            url, pause_s = self._urls[number % len(self._urls)], 0.0
            try:
                code = await self._connection(url)
                log.info("connection to %s ended with %s", url, code)
                if code is not None and 4102 <= code <= 4199:
                    return self._finish(Closed(code))
            except InvalidStatus as refused:
                status, header = refused.response.status_code, refused.response.headers.get("Retry-After", "")
                log.warning("%s refuses the handshake with %s", url, status)
                if 400 <= status < 500 and status != 429 and not self._entered.done():
                    return self._entered.set_exception(_refusal(refused))
                pause_s = float(header) if header.isdigit() else 0.0
            # Also what `get_token` raises: whoever gives tokens may be away for a moment.
            except Exception as error:
                log.warning("no connection to %s: %r", url, error)
            attempt = 0 if self._session.in_step else attempt + 1
            leave_at = self._session.leave_at
            self._session.disconnected()
            if leave_at is not None:
                pause_s, self._session.leave_at = max(0.0, leave_at - _now_ms()) / 1_000, None
            else:
                pause_s = max(pause_s, min(BACKOFF_MOST_S, BACKOFF_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1))
            await asyncio.sleep(pause_s)

    async def _connection(self, url: str) -> int | None:
        """One connection; returns its close code, if it was closed with one."""
        async with asyncio.timeout(CONNECT_WITHIN_S):
            headers = {"Authorization": f"Bearer {await self._get_token()}"}
        address = url.rstrip("/").replace("http", "ws", 1) + "/v1/ws"
        # The server pings, and heartbeats tell a dead connection: the library needn't.
        connecting = connect(address, subprotocols=[PROTOCOL], additional_headers=headers,
                             open_timeout=CONNECT_WITHIN_S, ping_interval=None, close_timeout=1)  # fmt: skip
        async with connecting as socket:
            self.connections += 1
            self._session.connected(_now_ms())
            reading = asyncio.create_task(self._read(socket))
            tasks = [reading]
            try:
                while not reading.done() and not self._is_over():
                    self._wake.clear()
                    self._session.tick(_now_ms())
                    await self._write(socket)
                    if self._session.wants_token:
                        self._session.wants_token = False
                        tasks.append(asyncio.create_task(self._renew(socket)))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(TICK_S):
                            await self._wake.wait()
                if reading.done():
                    reading.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return socket.close_code

    async def _read(self, socket: ClientConnection) -> None:
        session = self._session
        try:
            while True:
                frame = json.loads(await socket.recv())
                session.has_room = self._events.qsize() < (MOST_UNREAD if session.has_room else MOST_UNREAD // 2)
                session.receive(frame, _now_ms(), random.random())
                self._hand_out()
                self._wake.set()
        except ConnectionClosed:
            pass
        finally:
            self._wake.set()

    async def _write(self, socket: ClientConnection) -> None:
        frames, self._session.frames = self._session.frames, []
        with suppress(ConnectionClosed):
            async with asyncio.timeout(WRITE_WITHIN_S):
                for frame in frames:
                    await socket.send(json.dumps(frame, ensure_ascii=False))

    async def _renew(self, socket: ClientConnection) -> None:
        try:
            frame = {"event": "authenticate", "id": "authenticate", "payload": {"token": await self._get_token()}}
            await socket.send(json.dumps(frame))
        except Exception as error:
            # The connection ends with the token, and the next one asks again.
            log.warning("no fresh token: %r", error)

    def _hand_out(self) -> None:
        session = self._session
        for event in session.events:
            self._events.put_nowait(event)
        for op_id, outcome in session.outbox.answers:
            answer = self._answers.pop(op_id, None)
            if answer and not answer.done():
                if isinstance(outcome, Refused):
                    answer.set_exception(outcome)
                else:
                    answer.set_result(outcome)
        session.events, session.outbox.answers = [], []
        if session.in_step and not self._entered.done():
            self._entered.set_result(None)

    def _is_over(self) -> bool:
        leave_at = self._session.leave_at
        return self._session.is_dead or (leave_at is not None and _now_ms() >= leave_at)

    def _finish(self, end: Closed) -> None:
        self._end = self._end or end
        futures: list[asyncio.Future[Any]] = [*self._answers.values(), self._entered]
        for future in futures:
            if not future.done():
                future.set_exception(end)
        self._answers.clear()
        self._events.put_nowait(None)


def _now_ms() -> float:
    return time.monotonic() * 1_000


def _refusal(refused: InvalidStatus) -> Refused:
    try:
        problem = json.loads(refused.response.body or b"")
        return Refused(problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return Refused("handshake", str(refused))
