"""A client of Waltalkie: what docs/clients.md describes, in Python."""
from .client import Client as Client, Closed as Closed
from .sync import Event as Event, Refused as Refused, Session as Session
