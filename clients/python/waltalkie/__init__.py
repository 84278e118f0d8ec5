"""A client of Waltalkie: what docs/clients.md describes, in Python."""

from .client import Client, Closed
from .cursor import Event
from .outbox import Refused
from .session import Session

__all__ = ["Client", "Closed", "Event", "Refused", "Session"]
