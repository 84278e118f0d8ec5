"""The sync core does over a bad network what every client must do: clients/vectors/sync.json."""

import json
import unittest
from pathlib import Path

from waltalkie import Event, Session

VECTORS = Path(__file__).parent.parent / "vectors" / "sync.json"


class Device:
    """A session of alice, with what she was shown and what she asked in one step."""

    def __init__(self) -> None:
        self.session = Session()

    def connect(self, head: int, now: int) -> None:
        """With one chat, c1."""
        self.greet("e1", {"c1": head}, now)

    def greet(self, epoch: str, heads: dict[str, int], now: int) -> None:
        limits = {"content_bytes": 16_384, "frame_bytes": 65_536}
        hello = {"user_id": "alice", "session_id": "s", "heartbeat_ms": 5_000, "epoch": epoch, "limits": limits}
        marks = {"delivered_seq": 0, "read_seq": 0, "visible": [[1, None]]}
        chats = [{"chat_id": chat_id, "head_seq": head} | marks for chat_id, head in heads.items()]
        self.session.lost(now, 0.5)
        self.receive({"event": "hello", "payload": hello}, now)
        self.receive({"event": "chats", "payload": {"chats": chats, "complete": True}}, now)

    def receive(self, frame: dict, now: int) -> None:
        self.session.receive(frame, now, 0.5)

    def shown(self) -> list[Event]:
        """What the application is shown since it was asked before."""
        return [self.session.shown.get_nowait() for _ in range(self.session.shown.qsize())]

    def turn(self, now: int) -> tuple[list[list], dict[str, int]]:
        """Lets time pass; gives chat and `seq` of the events that were shown, and the cursors of resumes that were sent."""
        self.session.tick(now)
        shown = [[event.chat_id, event.seq] for event in self.shown() if event.seq is not None]
        asked: dict[str, int] = {}
        for frame in self.session.frames:
            if frame["event"] == "resume":
                asked |= frame["payload"]["cursors"]
        self.session.frames.clear()
        return shown, asked


class Vectors(unittest.TestCase):
    def test_every_case(self) -> None:
        cases = json.loads(VECTORS.read_text())["cases"]
        self.assertGreater(len(cases), 40)
        for case in cases:
            device = Device()
            for step in case["steps"]:
                with self.subTest(case["name"], **step):
                    self.take(device, step)

    def take(self, device: Device, step: dict) -> None:
        now = step["at_ms"]
        if step.get("disconnect"):
            device.session.lost(now, 0.5)
        elif "connect" in step:
            device.greet(step["connect"]["epoch"], step["connect"]["heads"], now)
        elif "frame" in step:
            device.receive(step["frame"], now)
        shown, asked = device.turn(now)
        self.assertEqual({chat_id: chat.cursor for chat_id, chat in device.session.chats.items()}, step["cursors"])
        self.assertEqual(shown, step["shown"])
        for chat_id, wanted in step["resumes"].items():
            self.assertEqual(asked.get(chat_id), wanted, chat_id)


if __name__ == "__main__":
    unittest.main()
