"""A bot: answers `ping`, and `echo …`, in each chat that it is a member of. See README.md."""

import asyncio
import json
import os
import urllib.request
import uuid

from waltalkie import Client, Event, Refused

URL = os.environ.get("WALTALKIE_URL", "http://127.0.0.1:8080")


async def token() -> str:
    """A token of the bot. Your backend mints them (docs/auth.md); the local stack gives them to anybody."""
    if given := os.environ.get("WALTALKIE_TOKEN"):
        return given
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{URL}/v1/dev/token", json.dumps({"user_id": "dave"}).encode(), headers)
    answer = await asyncio.to_thread(urllib.request.urlopen, request, timeout=5)
    return json.load(answer)["token"]


def answer_to(text: str) -> str | None:
    if text.strip().lower() == "ping":
        return "pong"
    return text.removeprefix("echo ").strip() or None if text.startswith("echo ") else None


async def handle(client: Client, event: Event) -> None:
    message = event.payload
    if event.name != "message" or message["sender_id"] == client.user_id or not message["content"]:
        return
    if answer := answer_to(message["content"]):
        # The id follows from the question's: whoever is asked once answers once, also a second copy of the bot.
        message_id = str(uuid.uuid5(uuid.UUID(message["message_id"]), "answer"))
        try:
            await client.send(message["chat_id"], answer, message_id=message_id)
        except Refused as refused:
            print(f"no answer in {message['chat_id']}: {refused}", flush=True)


async def main() -> None:
    async with Client(URL, token) as client:
        print(f"{client.user_id} listens in {len(client.chats)} chats", flush=True)
        async for event in client.events():
            await handle(client, event)


if __name__ == "__main__":
    asyncio.run(main())
