"""What the API says of itself as a whole: the head of /openapi.json and /docs."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DESCRIPTION", "TAGS"]

DESCRIPTION = """
Everything that happens is an event in a **topic**; a **stream** is a reader of topics with a position in them.

* **Streams** are Server-Sent Events. Whoever comes back with the last `id:` that it had, as `EventSource` does by
  itself, gets exactly what it missed, or one `stream.gap` event. 204 says: nothing more is to come.
* **Who you are** is said by a token, `Authorization: Bearer <token>`, by the cookie that holds it, or by a ticket in
  the address.
* **What goes wrong** is told by a problem document (RFC 9457) that says what would be right.
* **Publishing twice** by accident is prevented by an `Idempotency-Key`.
"""


def _tag(name: str, description: str) -> dict[str, str]:
    return {"name": name, "description": description}


# In the order in which they are shown.
TAGS: Sequence[dict[str, str]] = (
    _tag("topics", "Publish to a topic, follow one or several."),
    _tag("notifications", "To one user on every device, or to everybody."),
    _tag("realtime", "What has become of things: live updates for whoever shows them."),
    _tag("chat", "Rooms, who is in them, and who is typing."),
    _tag("generations", "Answers of models that survive their readers."),
    _tag("ask", "Answers from documents, with their sources."),
    _tag("lessons", "The smallest streams there are, to learn from."),
    _tag("recipes", "Recipes: generated, saved, searched."),
    _tag("challenges", "Recommended challenges, as a conversation."),
    _tag("gateway", "Streams of other servers, relayed."),
    _tag("auth", "Who you are; tickets, the cookie, and taking back what was given."),
    _tag("system", "How the server is, now and as a stream."),
    _tag("operations", "Probes and metrics."),
    _tag("admin", "For admins: who is connected, what is followed, and ending what should end."),
)
