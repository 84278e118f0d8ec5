"""The outbox: commands without a final answer, in the order in which they were made. No I/O and no clock.

    queued ──▶ sent ──▶ accepted ──▶ persisted (gone)
      ▲          └────────┴─▶ refused: for good (gone), for now, or the connection is lost
      └───────────────────────────────────────────────────────┘
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

IN_FLIGHT_PER_CHAT = 32
NO_ANSWER_MS = 15_000
RETRY_MS, RETRY_MOST_MS = 500, 30_000


class Refused(Exception):
    """Refused for good. `code` is one of the error codes of docs/api.md; the text says what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(slots=True)
class Command:
    """A send, edit or delete. `op_id` is the frame's id, over all tries; `phase` is queued, sent or accepted."""

    op_id: str
    event: str
    payload: dict[str, Any]
    phase: str = "queued"
    attempts: int = 0
    not_before: float = 0
    sent_at: float = 0

    @property
    def chat_id(self) -> str:
        return str(self.payload["chat_id"])

    def frame(self) -> dict[str, Any]:
        return {"event": self.event, "id": self.op_id, "payload": self.payload}


class Outbox:
    """Commands by `op_id`, in order. `answers` are the final ones: a `seq`, None where there is none, or Refused."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.answers: list[tuple[str, int | None | Refused]] = []
        self.frame_bytes = 65_536
        self._stalled: set[str] = set()

    def add(self, command: Command) -> None:
        """Puts a command last; one that is here stays. Raises Refused if the server would close for its size, and ValueError
        for what is no JSON, such as NaN in `app_data`."""
        if refused := self._too_big(command):
            raise refused
        self.commands.setdefault(command.op_id, command)

    def pump(self, now: float) -> list[dict[str, Any]]:
        """The frames to send now. Their commands count as sent."""
        flying, closed, frames = Counter[str](), set[str](), list[dict[str, Any]]()
        # What was queued for a server with a higher limit would close each connection to this one.
        for command in [command for command in self.commands.values() if command.phase == "queued"]:
            if refused := self._too_big(command):
                del self.commands[command.op_id]
                self.answers.append((command.op_id, refused))
        for command in self.commands.values():
            if command.phase != "queued" and now - command.sent_at > NO_ANSWER_MS:
                command.phase = "queued"
            flying[command.chat_id] += command.phase != "queued"
            # After a refusal: nothing more of the chat until each one on its way is answered, then from the first on.
            if command.phase == "sent" and command.chat_id in self._stalled:
                closed.add(command.chat_id)
        for command in self.commands.values():
            if command.phase != "queued" or command.chat_id in closed:
                continue
            if command.not_before > now or flying[command.chat_id] >= IN_FLIGHT_PER_CHAT:
                closed.add(command.chat_id)
                continue
            flying[command.chat_id] += 1
            self._stalled.discard(command.chat_id)
            command.phase, command.sent_at, command.attempts = "sent", now, command.attempts + 1
            frames.append(command.frame())
        return frames

    def acked(self, op_id: Any, state: str, seq: int | None) -> None:
        command = self.commands.get(op_id)
        if command and state == "persisted":
            del self.commands[op_id]
            self.answers.append((op_id, seq))
        elif command and command.phase == "sent":
            command.phase = "accepted"

    def refused(self, op_id: Any, error: dict[str, Any], now: float, chance: float) -> list[dict[str, Any]]:
        """Takes an `error`; gives the `discard_message` for a send that isn't sent again."""
        command = self.commands[op_id]
        self._stalled.add(command.chat_id)
        if error["code"] == "blocked_by_earlier" and (command.attempts == 1 or self._has_earlier(command)):
            command.phase, command.not_before = "queued", 0
        elif error["temporary"]:
            wait = min(RETRY_MOST_MS, RETRY_MS << min(command.attempts - 1, 10)) * (0.5 + chance / 2)
            command.phase, command.not_before = "queued", now + max(wait, error.get("retry_after_ms") or 0)
        else:
            del self.commands[op_id]
            self.answers.append((op_id, Refused(error["code"], error["message"])))
            if command.event == "send_message":
                message = {key: command.payload[key] for key in ("chat_id", "message_id")}
                return [{"event": "discard_message", "payload": message}]
        return []

    def disconnected(self) -> None:
        """What has no final answer is sent again on the next connection."""
        self._stalled.clear()
        for command in self.commands.values():
            command.phase, command.attempts, command.not_before = "queued", 0, 0

    def _too_big(self, command: Command) -> Refused | None:
        if len(json.dumps(command.frame(), ensure_ascii=False, allow_nan=False).encode()) <= self.frame_bytes:
            return None
        return Refused("frame_too_big", f"A frame has at most {self.frame_bytes} bytes.")

    def _has_earlier(self, command: Command) -> bool:
        """Whether one of the chat before it still has to go: the server waits for that one."""
        same = [one for one in self.commands.values() if one.chat_id == command.chat_id]
        return any(one.phase != "accepted" for one in same[: same.index(command)])
