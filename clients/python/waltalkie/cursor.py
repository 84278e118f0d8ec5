"""A chat's cursor: what is shown, what waits, and when to ask for what is missing. No I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

UNMET_HEAD_MS = 1_000
ASK_AGAIN_MS, ASK_AGAIN_MOST_MS = 1_000, 15_000
MOST_EARLY = 1_000
DELIVERED, READ = "mark_delivered", "mark_read"


@dataclass(frozen=True, slots=True)
class Event:
    """What an application is shown: `name` and `payload` as in docs/api.md, or `epoch_changed` (forget everything).

    `seq` is None for what isn't part of a chat's history: receipt, typing, presence, epoch_changed."""

    name: str
    payload: dict[str, Any]

    @property
    def chat_id(self) -> str | None:
        return self.payload.get("chat_id")

    @property
    def seq(self) -> int | None:
        return self.payload.get("seq")


@dataclass(slots=True)
class Chat:
    """A chat's cursor, what came early, and when to ask for what is missing."""

    cursor: int
    head: int = 0
    early: dict[int, tuple[int, Event | None]] = field(default_factory=dict)
    due: float | None = None
    asked: int = 0
    seen: int = 0
    has_more: bool = False
    read: int = 0
    told: dict[str, int] = field(default_factory=lambda: {DELIVERED: 0, READ: 0})
    is_left: bool = False
    typed_at: float | None = None

    def take(self, first: int, last: int, event: Event | None) -> list[Event]:
        """Takes what covers `first..last`; gives the events that are in order now."""
        if last <= self.cursor or last < first:
            return []
        self.head = max(self.head, last)
        has_room = first <= self.cursor + 1 or len(self.early) < MOST_EARLY
        if has_room and (first not in self.early or self.early[first][0] < last):
            self.early[first] = last, event
        shown = []
        while self.early and (first := min(self.early)) <= self.cursor + 1:
            last, event = self.early.pop(first)
            if last > self.cursor:
                self.cursor = last
                shown += [event] if event else []
        return shown

    def plan(self, now: float) -> None:
        """Decides when to ask, after anything happened to the chat."""
        patience = 0 if self.early or self.has_more else UNMET_HEAD_MS
        if self.head <= self.cursor and not self.has_more:
            self.due, self.asked = None, 0
        elif self.due is None:
            self.due, self.seen = now + patience, self.cursor
        elif self.cursor > self.seen:
            # It moves: a long answer is given time, and what didn't help before is forgotten.
            self.seen, self.asked = self.cursor, min(self.asked, 1)
            self.due = now + (ASK_AGAIN_MS if self.asked else patience)
        elif not self.asked:
            self.due = min(self.due, now + patience)

    def ask_at_once(self, now: float) -> None:
        self.due, self.asked, self.seen = now, 0, self.cursor

    def ask(self, now: float) -> int:
        self.due = now + min(ASK_AGAIN_MOST_MS, ASK_AGAIN_MS << min(self.asked, 10))
        self.asked, self.has_more = self.asked + 1, False
        return self.cursor
