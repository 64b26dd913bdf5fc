"""The user in whose name something is sent, as other users see that user."""

from __future__ import annotations

from pydantic import BaseModel

from ...auth.identity import Identity

__all__ = ["Sender", "replace_surrogates"]


class Sender(BaseModel):
    """From the credentials, never from the body of a request."""

    id: str
    name: str | None

    @classmethod
    def of(cls, identity: Identity) -> Sender:
        """The identity must have a user."""
        assert identity.user is not None
        name = identity.name
        return cls(id=replace_surrogates(identity.user), name=None if name is None else replace_surrogates(name))


def replace_surrogates(text: str) -> str:
    """The text with `?` for each lone surrogate: JSON, and so a token, can name one, and UTF-8 cannot carry it."""
    return text if text.isascii() else text.encode(errors="replace").decode()
