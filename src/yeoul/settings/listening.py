"""Where the server listens, and where it keeps what outlives it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

__all__ = ["Listening"]


class Listening(BaseModel):
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Anything but loopback needs a key (`YEOUL_JWT_SECRET` and the like).",
    )
    port: int = Field(8000, ge=0, le=65_535, description="TCP port; 0 lets the system choose, the ready line names it.")
    workers: int = Field(1, ge=1, le=1, description="Processes. One: the memory broker cannot be shared.")
    broker: str = Field(
        "memory://", description="Where events live. `memory://`: in this process, gone when it ends; needs nothing."
    )

    data_dir: Path = Field(
        Path("yeoul-data"),
        description="Folder of the databases, `yeoul.db` (what people save) and `documents.db` (what can be asked "
        "about). They are made at the first start. In the working directory, so that each project has its own; on a "
        "local disk, because SQLite's log needs its locks.",
    )
    own_documents: bool = Field(
        True,
        description="Whether `/ask` answers from Yeoul's own documentation while no other documents were added.",
    )
