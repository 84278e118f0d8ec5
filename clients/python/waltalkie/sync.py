"""The sync core of docs/clients.md. No I/O, no clock and no randomness of its own: client.py hands these in."""
import asyncio
from collections import Counter, deque
from concurrent.futures import Future
from math import inf
from typing import Any, NamedTuple

CHATS_PER_FRAME, COMMANDS_PER_CHAT, MOST_EARLY, MOST_UNREAD = 500, 32, 1_000, 10_000
DELIVERED, READ, LEFT = "mark_delivered", "mark_read", "member_left"
SHOWN = {"message", "message_edited", "message_deleted", "chat_created", "chat_updated", "member_joined", LEFT, "member_updated"}
Payload = dict[str, Any]
# `name` and `payload` as in docs/api.md, or `epoch_changed`. `seq` is None for what is no part of a chat's history.
Event = NamedTuple("Event", [("name", str), ("payload", Payload), ("chat_id", str | None), ("seq", int | None)])


class Refused(Exception):
    """Refused for good. `code` is one of the error codes of docs/api.md; the text says what is wrong."""
    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Command:
    def __init__(self, frame: Payload) -> None:
        self.frame, self.chat_id, self.answer = frame, str(frame["payload"]["chat_id"]), Future[int | None]()
        self.due, self.tries, self.is_accepted = -inf, 0, False


class Chat:
    """What is shown, what came early, when to ask for what is missing, and the person's marks."""
    def __init__(self, cursor: int) -> None:
        self.cursor, self.head, self.early = cursor, 0, dict[int, tuple[int, Event | None]]()
        self.since, self.asked, self.has_more = -inf, 0, False  # since it fell behind, last moved or was last asked for
        self.is_member, self.read, self.typed_at = True, 0, -inf

    def heard(self, head: int, now: float) -> None:
        if self.head <= self.cursor and not self.has_more:
            self.since, self.asked = now, 0
        self.head = max(self.head, head)


class Session:
    """A person's device: takes frames and the time, gives `frames` to send and events to be `shown`. `chance` is from 0 to 1."""
    def __init__(self, cursors: dict[str, int] | None = None, epoch: str | None = None) -> None:
        self.user_id, self.epoch, self.chats = "", epoch, {chat_id: Chat(seq) for chat_id, seq in (cursors or {}).items()}
        self.frames, self.shown, self.outbox = deque[Payload](), asyncio.Queue[Event | None](), dict[str, Command]()
        self.told, self.in_step = {DELIVERED: dict[str, int](), READ: dict[str, int]()}, asyncio.Event()
        self.heartbeat_ms, self.frame_bytes, self.connections, self.failures = 5_000, 65_536, 0, -1
        self.marks_at, self.leave_at = -inf, inf
        self.lost(0, 0)

    def lost(self, now: float, chance: float) -> float:
        """The connection has ended, or none was made: forgets what was asked, and gives the milliseconds until the next."""
        pause_ms = self.leave_at - now if self.leave_at < inf else min(20_000, 400 * 2**self.failures) * (0.5 + chance / 2)
        self.is_dead, self.leave_at, self.failures = False, inf, self.failures + 1
        self.in_step.clear()
        self.now, self.beat_at, self.unanswered_since = now, now + self.heartbeat_ms, inf
        self.frames.clear()
        for command in self.outbox.values():
            command.due, command.tries, command.is_accepted = -inf, 0, False
        for chat in self.chats.values():
            chat.is_member, chat.has_more, chat.since, chat.asked = False, False, -inf, 0
        return pause_ms

    def mark_read(self, chat_id: str, seq: int) -> None:
        """The person has read the chat up to `seq`. Delivered marks leave by themselves."""
        if chat := self.chats.get(chat_id):
            chat.read = max(chat.read, seq)

    def typing(self, chat_id: str) -> None:
        """The person types; to be called as often as they do. Told every three seconds, and only on a connection."""
        if self.in_step.is_set() and (chat := self.chats.get(chat_id)) and self.now - chat.typed_at >= 3_000:
            chat.typed_at = self.now
            self.frames.append({"event": "typing", "payload": {"chat_id": chat_id}})

    def receive(self, frame: Payload, now: float, chance: float) -> None:
        self.now, self.unanswered_since = now, inf
        op_id, payload = frame.get("id", ""), frame.get("payload") or {}
        event = Event(frame["event"], payload, payload.get("chat_id"), payload.get("seq"))
        command, chat = self.outbox.get(op_id), self.chats.get(event.chat_id or "")
        match event.name:
            case "hello":
                if self.epoch not in (None, payload["epoch"]):
                    self.chats.clear()
                    self.shown.put_nowait(event._replace(name="epoch_changed"))
                self.user_id, self.epoch, self.connections = payload["user_id"], payload["epoch"], self.connections + 1
                self.heartbeat_ms, self.frame_bytes = payload["heartbeat_ms"], payload["limits"]["frame_bytes"]
            case "chats":
                for one in payload["chats"]:
                    chat = self.chats.setdefault(one["chat_id"], Chat(one["head_seq"]))
                    chat.head, chat.is_member = max(chat.head, one["head_seq"]), True
                    self.told[DELIVERED][one["chat_id"]], self.told[READ][one["chat_id"]] = one["delivered_seq"], one["read_seq"]
                if payload.get("complete") and not self.in_step.is_set():  # a later one says nothing of the others
                    self.chats = {chat_id: chat for chat_id, chat in self.chats.items() if chat.is_member}
                    self.failures = 0
                    self.in_step.set()
            case "heads":
                for chat_id in payload.keys() & self.chats.keys():
                    self.chats[chat_id].heard(payload[chat_id], now)
            case "skipped":
                self._take(payload["chat_id"], payload["from_seq"], payload["to_seq"], None)
            case "resumed" if chat:
                chat.has_more = not payload["complete"]
                if chat.has_more and payload["to_seq"] > payload["from_seq"]:
                    chat.since, chat.asked = -inf, 0
            case "ack" if command:
                command.is_accepted = True
                if payload["state"] == "persisted":
                    self.outbox.pop(op_id).answer.set_result(payload.get("seq"))
            case "error" if command and payload["temporary"]:
                wait_ms = min(30_000, 250 * 2**command.tries) * (0.5 + chance / 2)
                command.due, command.is_accepted = now + max(wait_ms, payload.get("retry_after_ms") or 0), False
            case "error" if command:
                self.outbox.pop(op_id).answer.set_exception(Refused(payload["code"], payload["message"]))
                if command.frame["event"] == "send_message":
                    self.frames.append({"event": "discard_message", "payload": {"chat_id": command.chat_id, "message_id": op_id}})
            case "error" if op_id in self.told and payload["temporary"]:
                self.told[op_id].clear()
            case "error" if op_id == "resume" and not payload["temporary"]:
                self.is_dead = payload["code"] == "conflict"  # another epoch, which the next hello tells
                self.chats.pop(event.chat_id or "", None)
            case "reconnect":
                self.leave_at = now + payload["after_ms"]
            case "receipt" | "typing" | "presence" if self.shown.qsize() < MOST_UNREAD:
                self.shown.put_nowait(event)
            case name if name != "ack" and event.seq is not None:
                self._take(payload["chat_id"], event.seq, event.seq, event if name in SHOWN else None)

    def _take(self, chat_id: str, first: int, last: int, event: Event | None) -> None:
        chat = self.chats.setdefault(chat_id, Chat(first - 1))
        chat.heard(last, self.now)
        if self.shown.qsize() < MOST_UNREAD and (first <= chat.cursor + 1 or len(chat.early) < MOST_EARLY):
            chat.early[first] = last, event
        while chat.early and (first := min(chat.early)) <= chat.cursor + 1:
            last, event = chat.early.pop(first)
            if last > chat.cursor:
                chat.cursor, chat.since, chat.asked = last, self.now, min(chat.asked, 1)
                if event:
                    self.shown.put_nowait(event)
                    if any(member["user_id"] == self.user_id for member in event.payload.get("memberships", ())):
                        chat.is_member = event.name != LEFT

    def tick(self, now: float) -> None:
        self.now = now
        if now - self.unanswered_since >= 2 * self.heartbeat_ms:
            self.is_dead = True
        elif now >= self.beat_at:
            self.beat_at, self.unanswered_since = now + self.heartbeat_ms, min(self.unanswered_since, now)
            self.frames.append({"event": "heartbeat"})
        if not self.in_step.is_set():
            return
        cursors = dict[str, int]()
        for chat_id, chat in self.chats.items() if self.shown.qsize() < MOST_UNREAD // 2 else ():
            wait_ms = min(15_000, 500 * 2**chat.asked) if chat.asked else 0 if chat.early else 1_000
            if (chat.head > chat.cursor or chat.has_more) and now - chat.since >= wait_ms and len(cursors) < CHATS_PER_FRAME:
                cursors[chat_id], chat.since, chat.asked = chat.cursor, now, chat.asked + 1
        if cursors:
            self.frames.append({"event": "resume", "id": "resume", "payload": {"cursors": cursors, "epoch": self.epoch}})
        for kind, told in self.told.items() if now >= self.marks_at else ():
            mine = [(key, chat.read if kind == READ else chat.cursor) for key, chat in self.chats.items() if chat.is_member]
            marks = dict([(chat_id, seq) for chat_id, seq in mine if seq > told.get(chat_id, 0)][:CHATS_PER_FRAME])
            if marks:
                told.update(marks)
                self.marks_at = now + 1_000
                self.frames.append({"event": kind, "id": kind, "payload": {"marks": marks}})
        on_their_way = Counter[str]()
        for command in self.outbox.values():
            if command.due <= now and on_their_way[command.chat_id] < COMMANDS_PER_CHAT:
                command.due, command.tries, command.is_accepted = now + 15_000, command.tries + 1, False
                self.frames.append(command.frame)
            on_their_way[command.chat_id] += 1 if command.is_accepted else COMMANDS_PER_CHAT  # none overtakes another
