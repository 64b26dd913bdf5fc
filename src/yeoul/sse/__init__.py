"""The wire format, pure: bytes ↔ `Event`, after WHATWG HTML 9.2. Standard library only, no async, no clock."""

from .decoder import DEFAULT_MAX_EVENT_BYTES, Decoder
from .encoder import comment, encode
from .event import Event
from .json_data import json_data

__all__ = ["DEFAULT_MAX_EVENT_BYTES", "Decoder", "Event", "comment", "encode", "json_data"]
