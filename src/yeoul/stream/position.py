"""Where a reader stands in several journals: what it is given next, and what of it is gone.

The reader has one offset for all its journals, since offsets are one total order over all topics. Two things make a
position more than that number: a new reader may begin at a different place in each journal, and a reader that was
sent a gap knows in each journal up to where events are lost. Both are *floors*: an offset for each journal below
which the reader expects nothing.

Reading is one walk for all kinds of readers: `missing` names the journals that no longer have what comes next (a caller
with a store of its own reads on there), `next_frames` merges the others in the order of their offsets, `advance` moves
on. Where something is gone for good, `gap` says what is lost and where reading goes on, and `skip` goes there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge

from .cursor import Cursor, UnknownId
from .journal import Frame, Gap, GapReason, Journal, Slice

__all__ = ["LostPosition", "Position"]

# A position that no journal can be read from, and why.
LostPosition = tuple[Cursor | UnknownId, GapReason]


class Position:
    """A place in these journals: everything up to and including `offset` has been read, or was not asked for.

    `lost` is set where the reader came with a position that is not one of these journals.
    """

    __slots__ = ("_floors", "journals", "lost", "offset")

    def __init__(
        self,
        journals: Sequence[Journal],
        offset: int,
        floors: Sequence[int] | None = None,
        lost: LostPosition | None = None,
    ) -> None:
        self.journals = journals
        self.offset = offset
        self.lost = lost
        self._floors = floors

    @classmethod
    def of_new_reader(cls, journals: Sequence[Journal], newest: Sequence[int], head: int) -> Position:
        """Before the `newest` frames of each journal. `head`: the newest offset of all topics."""
        floors = [_floor(journal, count, head) for journal, count in zip(journals, newest, strict=True)]
        return cls(journals, min(floors), floors)

    @classmethod
    def of_returning_reader(
        cls,
        journals: Sequence[Journal],
        after: Cursor | UnknownId,
        newest: Sequence[int | None],
        *,
        epoch: str,
        head: int,
    ) -> Position:
        """After the position that it had. A journal whose `newest` is a number is read as by a new reader instead."""
        lost = _loss(after, epoch, head)
        floors = [
            0 if count is None else _floor(journal, count, head)
            for journal, count in zip(journals, newest, strict=True)
        ]
        if lost is not None and None not in newest:
            return cls(journals, min(floors), floors)  # nothing that it had is asked for
        offset = after.offset if lost is None and isinstance(after, Cursor) else 0
        return cls(journals, offset, floors, lost)

    @property
    def current(self) -> bool:
        """Whether the reader has all that there is, as most new ones do."""
        offset, floors = self.offset, self._floors
        for index, journal in enumerate(self.journals):
            if journal.last > offset and (floors is None or journal.last > floors[index]):
                return False
        return self.lost is None

    def known(self) -> Iterator[tuple[Journal, int]]:
        """Each journal, and the offset up to which the reader has it, did not ask for it, or knows that it is lost."""
        offset = self.offset
        if self._floors is None:
            return ((journal, offset) for journal in self.journals)
        return ((journal, max(offset, floor)) for journal, floor in zip(self.journals, self._floors, strict=True))

    def missing(self) -> list[int]:
        """The indexes of the journals that have let go of frames that come next."""
        return [index for index, (journal, offset) in enumerate(self.known()) if journal.evicted > offset]

    def next_frames(self, max_bytes: int, history: Mapping[int, Slice] | None = None) -> tuple[Sequence[Frame], bool]:
        """The next frames of all journals in the order of their offsets, and whether there are more.

        `max_bytes` bounds what is taken of each journal (`Frame.size`; at least one frame). `history`: slices by
        the journal's index that stand in for journals which begin too late.
        """
        slices: list[Slice] = []
        for index, (journal, offset) in enumerate(self.known()):
            part = history.get(index) if history else None
            if part is None:
                part = journal.after(offset, max_bytes)
            if part is None:
                return (), True  # let go since `missing` was asked: ask again
            slices.append(part)
        if len(slices) == 1:
            return slices[0].frames, slices[0].more
        # A journal that has more may have frames right after its slice's last one: the others must not run ahead.
        horizon = min((part.frames[-1].offset for part in slices if part.more and part.frames), default=None)
        frames = [f for part in slices for f in part.frames if horizon is None or f.offset <= horizon]
        frames.sort(key=_offset)
        return frames, horizon is not None

    def advance(self, frames: Sequence[Frame]) -> None:
        """The reader has been given these, the next ones."""
        self.offset = frames[-1].offset

    def newest_within(self, max_bytes: int) -> tuple[int | None, int]:
        """The offset after which stand exactly the newest frames, over all journals, that fit into so many bytes; None
        where all fit that the reader has not had, and then how many bytes are left."""
        left = max_bytes - sum(journal.size for journal in self.journals)
        if left >= 0:  # nearly always, and nothing has to be looked at
            return None, left
        left = max_bytes
        for frame in merge(*(journal.newest_first(offset) for journal, offset in self.known()), key=_newest_first):
            if frame.size > left:
                return frame.offset, 0
            left -= frame.size
        return None, left

    def gap(self, requested: Cursor | UnknownId, reason: GapReason, *, epoch: str, head: int, beyond: int = 0) -> Gap:
        """The gap for a reader that cannot be given all that it asked for. Reading goes on before the oldest frame that
        is kept and comes after the offset `beyond`."""
        firsts = [journal.after(max(offset, beyond, journal.evicted), 1) for journal, offset in self.known()]
        oldest = min((part.frames[0].offset for part in firsts if part and part.frames), default=None)
        return Gap(
            requested,
            None if oldest is None else Cursor(epoch, oldest),
            reason,
            head if oldest is None else oldest - 1,
        )

    def skip(self, gap: Gap) -> None:
        """The reader has been sent the gap: it goes on after it, and what is lost now is not reported again."""
        self._floors = [max(offset, journal.evicted) for journal, offset in self.known()]
        self.offset = gap.resume
        self.lost = None

    def settle(self) -> int:
        """The reader has all frames of all journals: its offset, which then says everything."""
        self.offset = max(self.offset, *(self._floors or ()), *(journal.last for journal in self.journals))
        self._floors = None
        return self.offset


def _floor(journal: Journal, newest: int, head: int) -> int:
    start = journal.tail(newest) if newest else head
    # Where there is nothing for it, the head: a reader of several topics that is cut at once comes back to the lowest
    # of its floors, and would be given what it did not ask for.
    return start if start < journal.last else head


def _loss(after: Cursor | UnknownId, epoch: str, head: int) -> LostPosition | None:
    if isinstance(after, UnknownId):
        return after, "unknown"
    if after.epoch != epoch:
        return after, "epoch"
    return (after, "unknown") if after.offset > head else None


def _offset(frame: Frame) -> int:
    return frame.offset


def _newest_first(frame: Frame) -> int:
    return -frame.offset
