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
        limits = {"content_bytes": 16_384, "frame_bytes": 65_536}
        hello = {"user_id": "alice", "session_id": "s", "heartbeat_ms": 5_000, "epoch": "e1", "limits": limits}
        chat = {"chat_id": "c1", "head_seq": head, "delivered_seq": 0, "read_seq": 0, "visible": [[1, None]]}
        self.session.lost(now, 0.5)
        self.receive({"event": "hello", "payload": hello}, now)
        self.receive({"event": "chats", "payload": {"chats": [chat], "complete": True}}, now)

    def receive(self, frame: dict, now: int) -> None:
        self.session.receive(frame, now, 0.5)

    def shown(self) -> list[Event]:
        """What the application is shown since it was asked before."""
        return [self.session.shown.get_nowait() for _ in range(self.session.shown.qsize())]

    def turn(self, now: int) -> tuple[list[int | None], int | None]:
        """Lets time pass; gives the shown events' `seq`, and the cursor of c1 in a resume if one was sent."""
        self.session.tick(now)
        shown = [event.seq for event in self.shown()]
        asked = [frame["payload"]["cursors"]["c1"] for frame in self.session.frames if frame["event"] == "resume"]
        self.session.frames.clear()
        return shown, asked[0] if asked else None


class Vectors(unittest.TestCase):
    def test_every_case(self) -> None:
        cases = json.loads(VECTORS.read_text())["cases"]
        self.assertGreater(len(cases), 10)
        for case in cases:
            device = Device()
            device.connect(case["head"], 0)
            device.turn(0)
            for step in case["steps"]:
                with self.subTest(case["name"], **step):
                    self.take(device, step)

    def take(self, device: Device, step: dict) -> None:
        now = step["at_ms"]
        if step.get("disconnect"):
            device.session.lost(now, 0.5)
        elif "connect" in step:
            device.connect(step["connect"]["head"], now)
        elif "frame" in step:
            device.receive(step["frame"], now)
        shown, asked = device.turn(now)
        self.assertEqual(device.session.chats["c1"].cursor, step["cursor"])
        self.assertEqual(shown, step["shown"])
        if "resumes_from" in step:
            self.assertEqual(asked, step["resumes_from"])


if __name__ == "__main__":
    unittest.main()
