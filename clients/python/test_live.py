"""Against a live Waltalkie. WALTALKIE_URL is its address; WALTALKIE_ALICE_TOKEN, WALTALKIE_BOB_TOKEN and
WALTALKIE_ECHO_TOKEN are tokens of three people. Survival needs a second gateway at WALTALKIE_OTHER_URL, and
somebody who kills the first when asked to (tests/tests/end_to_end/python_client.rs)."""

import asyncio
import hashlib
import json
import os
import random
import sys
import unittest
import urllib.request
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from waltalkie import Client, Event, Refused
from waltalkie.files import upload

BOT = Path(__file__).parents[2] / "examples" / "bot" / "bot.py"
PATIENCE_S = 60


def given(name: str) -> str:
    if not os.environ.get(name):
        raise RuntimeError(f"{name} is not set: see the head of {Path(__file__).name}")
    return os.environ[name]


def token_of(person: str) -> str:
    return given(f"WALTALKIE_{person.upper()}_TOKEN")


def device(person: str, url: str | list[str] | None = None) -> Client:
    async def token() -> str:
        return token_of(person)

    return Client(url or given("WALTALKIE_URL"), token)


async def ask(person: str, path: str, body: dict | None = None) -> dict:
    """A request over HTTP; a POST if there is a body."""
    headers = {"Authorization": f"Bearer {token_of(person)}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(given("WALTALKIE_URL") + path, data, headers)

    def answer() -> dict:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return json.load(response)

    return await asyncio.to_thread(answer)


async def make_chat(*people: str) -> str:
    """A group of alice and others, who exist from their first request on."""
    ids = [(await ask(person, "/v1/users/me"))["user_id"] for person in people]
    return (await ask("alice", "/v1/chats", {"name": "Python", "member_ids": ids}))["chat_id"]


async def seen(client: Client, chat_id: str, last: Callable[[Event], bool]) -> list[Event]:
    """The chat's events up to one; each must be the next."""
    events: list[Event] = []
    async for event in client.events():
        if event.chat_id != chat_id or (event.seq is None and not last(event)):
            continue
        events.append(event)
        if last(event):
            break
    seqs = [event.seq for event in events if event.seq is not None]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True, seqs
    return events


def texts(events: list[Event]) -> list[str]:
    return [event.payload["content"] for event in events if event.name == "message"]


class Proxy:
    """A network between a client and the server that can be cut, or go silent in one direction."""

    async def __aenter__(self) -> "Proxy":
        self.lets_answers_through = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = given("WALTALKIE_URL").removeprefix("http://").split(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        ends = {writer, there_writer}
        self._writers |= ends
        ways = [self._pass(reader, there_writer, False), self._pass(there_reader, writer, True)]
        with suppress(OSError):
            await asyncio.wait([asyncio.create_task(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        self._writers -= ends
        for end in ends:
            end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, are_answers: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self.lets_answers_through or not are_answers:
                    writer.write(data)
                    await writer.drain()


class Live(unittest.IsolatedAsyncioTestCase):
    async def within(self, *work: Awaitable[object]) -> list[object]:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(*work)


class Conversation(Live):
    async def test_two_people_talk(self) -> None:
        chat_id, question = await make_chat("bob"), str(uuid.uuid4())
        async with device("alice") as alice, device("bob") as bob:
            hears = asyncio.create_task(seen(bob, chat_id, lambda event: event.name == "message_deleted"))
            first = await alice.send(chat_id, "Noon?", message_id=question, app_data={"kind": "lunch"})
            answer = await bob.send(chat_id, "Half past twelve", parent_message_id=question)
            edited = await alice.edit(chat_id, question, "Half past twelve?")
            deleted = await alice.delete(chat_id, question)
            self.assertEqual([first, answer, edited, deleted], list(range(first, first + 4)))
            self.assertIsNone(await alice.delete(chat_id, question))
            self.assertEqual(await alice.send(chat_id, "Noon?", message_id=question), first, "the same message again")
            [events] = await self.within(hears)
            self.assertEqual(texts(events), ["Noon?", "Half past twelve"])
            self.assertEqual(events[1].payload["parent_message_id"], question)
            self.assertIsNone(events[-1].payload["content"])

            def bob_has_read(event: Event) -> bool:
                users = event.payload.get("users", {}) if event.name == "receipt" else {}
                return users.get(bob.user_id, {}).get("read_seq", 0) >= answer

            bob.mark_read(chat_id, answer)
            await self.within(seen(alice, chat_id, bob_has_read))
            alice.typing(chat_id)
            await self.within(seen(bob, chat_id, lambda event: event.name == "typing"))

    async def test_refusals(self) -> None:
        chat_id = await make_chat("bob")
        async with device("alice") as alice:
            refused = [alice.send("nowhere", "?"), alice.send(chat_id, " "), alice.send(chat_id, "x" * 70_000)]
            answers = await asyncio.gather(*refused, alice.send(chat_id, "goes on"), return_exceptions=True)
            codes = [answer.code if isinstance(answer, Refused) else answer for answer in answers]
            self.assertEqual(codes, ["chat_not_found", "content_empty", "frame_too_big", 2])

        async def wrong() -> str:
            return "no token"

        with self.assertRaises(Refused) as refusal:
            await self.within(Client(given("WALTALKIE_URL"), wrong).__aenter__())
        self.assertEqual(refusal.exception.code, "token_invalid")


class Files(Live):
    async def test_a_file_goes_with_its_message(self) -> None:
        chat_id = await make_chat("bob")
        small, large = b"some words", bytes(range(256)) * (20 << 12)
        async with device("alice") as alice, device("bob") as bob:
            hears = asyncio.create_task(seen(bob, chat_id, lambda event: event.name == "message"))
            one = await upload(alice, chat_id, "words.txt", small, "text/plain")
            other = await upload(alice, chat_id, "large.bin", large)
            seq = await alice.send(chat_id, "", attachments=[one, other])
            [events] = await self.within(hears)
            self.assertEqual(events[-1].seq, seq)
            shown = [(file["media_id"], file["size_bytes"]) for file in events[-1].payload["attachments"]]
            self.assertEqual(shown, [(one, len(small)), (other, len(large))])
            for media_id, content in ((one, small), (other, large)):
                urls = (await ask("bob", f"/v1/media/{media_id}"))["urls"]
                self.assertEqual(await asyncio.to_thread(fetched, urls["download_url"]), content)
            with self.assertRaises(Refused) as refusal:
                await upload(alice, chat_id, "photo.png", b"no picture at all", "image/png")
            self.assertEqual(refusal.exception.code, "media_refused")
            with self.assertRaises(Refused) as refusal:
                await alice.send(chat_id, "", attachments=["nothing"])
            self.assertEqual(refusal.exception.code, "media_not_found")
            self.assertEqual(await alice.send(chat_id, "goes on"), seq + 1)


class LargeFile(Live):
    """Whoever runs it may cut its connections to the store."""

    async def test_a_large_file_arrives_whole(self) -> None:
        chat_id, content = await make_chat("bob"), random.Random(7).randbytes(40 << 20)
        async with device("alice") as alice:
            [media_id] = await self.within(upload(alice, chat_id, "large.bin", content))
        urls = (await ask("alice", f"/v1/media/{media_id}"))["urls"]
        arrived = await asyncio.to_thread(fetched, urls["download_url"])
        self.assertEqual(hashlib.sha256(arrived).hexdigest(), hashlib.sha256(content).hexdigest())


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return answer.read()


class Network(Live):
    async def test_cuts_lose_nothing_and_double_nothing(self) -> None:
        chat_id = await make_chat("bob")
        said = [f"message {number}" for number in range(100)]
        async with Proxy() as near, Proxy() as far, device("alice", near.url) as alice, device("bob", far.url) as bob:
            hears = asyncio.create_task(seen(bob, chat_id, lambda event: event.payload.get("content") == said[-1]))
            sends = [asyncio.create_task(alice.send(chat_id, text)) for text in said]
            for number in (5, 20, 40, 60, 80):
                await self.within(sends[number])
                near.cut()
                far.cut()
            seqs = await self.within(*sends)
            [events] = await self.within(hears)
            self.assertEqual(texts(events), said)
            self.assertEqual(seqs, list(range(2, 102)))
            self.assertGreater(min(alice.connections, bob.connections), 2, "the cuts were noticed")
        history = await ask("alice", f"/v1/chats/{chat_id}/messages?limit=200")
        self.assertEqual([message["content"] for message in history["messages"]], said)

    async def test_what_was_never_acknowledged_is_persisted_once(self) -> None:
        chat_id = await make_chat("bob")
        async with Proxy() as near, device("alice", near.url) as alice, device("bob") as bob:
            hears = asyncio.create_task(seen(bob, chat_id, lambda event: event.payload.get("content") == "after it"))
            near.lets_answers_through = False
            send = asyncio.create_task(alice.send(chat_id, "once"))
            await self.within(self.is_persisted(chat_id))
            self.assertFalse(send.done(), "no answer came through")
            near.cut()
            near.lets_answers_through = True
            self.assertEqual(await self.within(send, alice.send(chat_id, "after it")), [2, 3])
            [events] = await self.within(hears)
            self.assertEqual(texts(events), ["once", "after it"])
            self.assertEqual(alice.connections, 2)

    async def is_persisted(self, chat_id: str) -> None:
        while not (await ask("bob", f"/v1/chats/{chat_id}/messages"))["messages"]:
            await asyncio.sleep(0.05)


class Bot(Live):
    async def test_the_bot_answers(self) -> None:
        chat_id = await make_chat("bob", "echo")
        environment = os.environ | {"WALTALKIE_TOKEN": token_of("echo"), "PYTHONPATH": str(Path(__file__).parent)}
        bot = await asyncio.create_subprocess_exec(
            sys.executable, "-B", str(BOT), env=environment, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with device("alice") as alice:
                [line] = await self.within(bot.stdout.readline())
                self.assertIn(b"listens", line)
                for said, answered in (("ping", "pong"), ("echo Grüße 👋", "Grüße 👋")):
                    hears = asyncio.create_task(seen(alice, chat_id, is_text(answered)))
                    await alice.send(chat_id, said)
                    [events] = await self.within(hears)
                    self.assertEqual(texts(events), [said, answered])
        finally:
            bot.terminate()
            await bot.wait()


def is_text(text: str) -> Callable[[Event], bool]:
    return lambda event: event.payload.get("content") == text


@unittest.skipUnless(os.environ.get("WALTALKIE_OTHER_URL"), "needs a second gateway")
class Survival(Live):
    async def test_the_kill_of_a_gateway(self) -> None:
        chat_id, other = await make_chat("bob"), given("WALTALKIE_OTHER_URL")
        said: list[str] = []
        async with device("alice", [given("WALTALKIE_URL"), other]) as alice, device("bob", other) as bob:
            hears = asyncio.create_task(seen(bob, chat_id, is_text("the end")))
            after = 0
            async with asyncio.timeout(PATIENCE_S):
                while after < 20:
                    said.append(f"message {len(said)}")
                    await alice.send(chat_id, said[-1])
                    after += alice.connections > 1
                    if len(said) == 20:
                        print("kill the gateway of alice", flush=True)
            await self.within(alice.send(chat_id, "the end"))
            [events] = await self.within(hears)
            self.assertEqual(texts(events), [*said, "the end"])


if __name__ == "__main__":
    unittest.main()
