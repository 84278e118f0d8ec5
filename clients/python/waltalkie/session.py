"""The sync core, as docs/clients.md describes it: frames and milliseconds in; frames, events and answers out.

    receive ──▶ chats' cursors, in order ──▶ events
    tick ─────▶ resumes · outbox · marks · heartbeat ──▶ frames

No I/O, no clock and no randomness of its own: whoever drives it hands these in (client.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cursor import DELIVERED, READ, Chat, Event
from .outbox import Outbox

Payload = dict[str, Any]

CHATS_PER_FRAME = 500
MARKS_EVERY_MS = 1_000
TYPING_EVERY_MS = 3_000
SEQUENCED = {"message", "message_edited", "message_deleted", "chat_created", "chat_updated",
             "member_joined", "member_left", "member_updated"}  # fmt: skip
PASSING = {"receipt", "typing", "presence"}


class Session:
    """One person's device over any number of connections. Whoever drives it takes out `frames`, `events`, and the
    outbox's `answers`, in order."""

    def __init__(self, cursors: Mapping[str, int] | None = None, epoch: str | None = None) -> None:
        self.chats: dict[str, Chat] = {}
        self.outbox = Outbox()
        self.epoch = epoch
        self.user_id: str | None = None
        self.in_step = False
        self.is_dead = False
        self.leave_at: float | None = None
        self.wants_token = False
        self.has_room = True
        self.frames: list[Payload] = []
        self.events: list[Event] = []
        self._kept = dict(cursors or {})
        self._announced: set[str] = set()
        self._marked_at = {DELIVERED: float("-inf"), READ: float("-inf")}
        self._heartbeat_ms = 5_000
        self._beat_at = 0.0
        self._unanswered: float | None = None

    def connected(self, now: float) -> None:
        self.disconnected()
        self._announced, self._beat_at, self._unanswered = set(), now + self._heartbeat_ms, None
        self.leave_at, self.is_dead, self.wants_token = None, False, False

    def disconnected(self) -> None:
        """Chats, cursors, early events and commands stay; what was asked went with the connection."""
        self.in_step = False
        self.frames.clear()
        self.outbox.disconnected()
        for chat in self.chats.values():
            chat.due, chat.asked, chat.has_more = None, 0, False

    def read(self, chat_id: str, seq: int) -> None:
        if chat := self.chats.get(chat_id):
            chat.read = max(chat.read, seq)

    def typing(self, chat_id: str, now: float) -> None:
        chat = self.chats.get(chat_id)
        if self.in_step and chat and (chat.typed_at is None or now - chat.typed_at >= TYPING_EVERY_MS):
            chat.typed_at = now
            self.frames.append({"event": "typing", "payload": {"chat_id": chat_id}})

    def receive(self, frame: Payload, now: float, chance: float) -> None:
        """Takes a frame. `chance`, from 0 to 1, spreads the retries of many clients."""
        self._unanswered = None
        name, payload = frame["event"], frame.get("payload") or {}
        match name:
            case "hello":
                self._greeted(payload, now)
            case "chats":
                self._chats(payload, now)
            case "heads":
                for chat_id, head in payload.items():
                    if chat := self.chats.get(chat_id):
                        chat.head = max(chat.head, head)
                        chat.plan(now)
            case "skipped":
                self._take(payload["chat_id"], payload["from_seq"], payload["to_seq"], None, now)
            case "resumed":
                self._resumed(payload, now)
            case "ack":
                self.outbox.acked(frame.get("id"), payload["state"], payload.get("seq"))
            case "error":
                self._refused(frame.get("id"), payload, now, chance)
            case "token_expiring":
                self.wants_token = True
            case "reconnect":
                self.leave_at = now + payload["after_ms"]
            case _ if name in PASSING:
                if self.has_room:
                    self.events.append(Event(name, payload))
            case _ if isinstance(payload.get("seq"), int):
                event = Event(name, payload) if name in SEQUENCED else None
                self._take(payload["chat_id"], payload["seq"], payload["seq"], event, now)

    def tick(self, now: float) -> None:
        """Does what the time asks for; to be called often on a connection."""
        self._beat(now)
        if not self.in_step:
            return
        due = [chat_id for chat_id, chat in self.chats.items() if chat.due is not None and chat.due <= now]
        for start in range(0, len(due) if self.has_room else 0, CHATS_PER_FRAME):
            cursors = {chat_id: self.chats[chat_id].ask(now) for chat_id in due[start : start + CHATS_PER_FRAME]}
            payload = {"cursors": cursors, "epoch": self.epoch}
            self.frames.append({"event": "resume", "id": "resume", "payload": payload})
        self.frames += self.outbox.pump(now)
        for kind in (DELIVERED, READ):
            self._mark(kind, now)

    def _greeted(self, hello: Payload, now: float) -> None:
        self.user_id, self._heartbeat_ms = hello["user_id"], hello["heartbeat_ms"]
        self.outbox.frame_bytes, self._beat_at = hello["limits"]["frame_bytes"], now + self._heartbeat_ms
        if self.epoch not in (None, hello["epoch"]):
            self.chats.clear()
            self._kept.clear()
            self.events.append(Event("epoch_changed", {"epoch": hello["epoch"]}))
        self.epoch = hello["epoch"]

    def _chats(self, page: Payload, now: float) -> None:
        for entry in page["chats"]:
            chat = self._chat(entry["chat_id"], entry["head_seq"])
            chat.head, chat.is_left = max(chat.head, entry["head_seq"]), False
            chat.told = {DELIVERED: entry["delivered_seq"], READ: entry["read_seq"]}
            if chat.head > chat.cursor:
                chat.ask_at_once(now)
            self._announced.add(entry["chat_id"])
        # Later ones tell of chats that the person was added to, and nothing of the others.
        if page.get("complete") and not self.in_step:
            self.chats = {chat_id: chat for chat_id, chat in self.chats.items() if chat_id in self._announced}
            self.in_step = True

    def _chat(self, chat_id: str, start: int) -> Chat:
        if chat_id not in self.chats:
            cursor = self._kept.pop(chat_id, start)
            self.chats[chat_id] = Chat(cursor, head=cursor)
        return self.chats[chat_id]

    def _take(self, chat_id: str, first: int, last: int, event: Event | None, now: float) -> None:
        chat = self._chat(chat_id, first - 1)
        if self.has_room:
            for shown in chat.take(first, last, event):
                self.events.append(shown)
                members = shown.payload.get("memberships") or () if shown.name == "member_left" else ()
                chat.is_left |= any(member["user_id"] == self.user_id for member in members)
        else:
            # The application is behind. It is asked for again when there is room.
            chat.head = max(chat.head, last)
        chat.plan(now)

    def _resumed(self, resumed: Payload, now: float) -> None:
        if chat := self.chats.get(resumed["chat_id"]):
            chat.has_more = not resumed["complete"]
            if chat.has_more and resumed["to_seq"] > resumed["from_seq"]:
                chat.ask_at_once(now)
            chat.plan(now)

    def _refused(self, request: Any, error: Payload, now: float, chance: float) -> None:
        if request in self.outbox.commands:
            self.frames += self.outbox.refused(request, error, now, chance)
        elif request in (DELIVERED, READ) and error["temporary"]:
            for chat in self.chats.values():
                chat.told[request] = 0
        elif request == "resume" and error["code"] == "conflict":
            # Another epoch, which the next hello tells.
            self.is_dead = True
        elif request == "resume" and not error["temporary"]:
            self.chats.pop(error.get("chat_id", ""), None)

    def _mark(self, kind: str, now: float) -> None:
        if now - self._marked_at[kind] < MARKS_EVERY_MS:
            return
        marks: dict[str, int] = {}
        for chat_id, chat in self.chats.items():
            wanted = chat.read if kind == READ else chat.cursor
            if wanted > chat.told[kind] and not chat.is_left and len(marks) < CHATS_PER_FRAME:
                marks[chat_id] = chat.told[kind] = wanted
        if marks:
            self._marked_at[kind] = now
            self.frames.append({"event": kind, "id": kind, "payload": {"marks": marks}})

    def _beat(self, now: float) -> None:
        if now < self._beat_at:
            return
        if self._unanswered is not None and now - self._unanswered >= 2 * self._heartbeat_ms:
            self.is_dead = True
            return
        self._beat_at = now + self._heartbeat_ms
        self._unanswered = now if self._unanswered is None else self._unanswered
        self.frames.append({"event": "heartbeat"})
