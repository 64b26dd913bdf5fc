from __future__ import annotations

import weakref
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.reference_decoder import reference_decode
from yeoul.sse import Decoder, Event
from yeoul.stream import Cursor, Frame, Gap, Journal, Retention, Slice

relaxed = settings(deadline=None, derandomize=True, max_examples=300)

EPOCH = "k3x9q0w2ab"
UNBOUNDED = Retention(events=10**9, bytes=10**12, seconds=1e9)


def frame(offset: int, data: str = "x", *, at: float = 0.0, previous: int = 0, final: bool = False) -> Frame:
    return Frame(EPOCH, offset, previous, Event(data), at, final=final)


def journal_of(*offsets: int, retention: Retention = UNBOUNDED, evicted: int = 0) -> Journal:
    journal = Journal(retention, evicted=evicted)
    for offset in offsets:
        journal.append(frame(offset))
    return journal


def offsets(found: Slice | None) -> list[int] | None:
    return None if found is None else [frame.offset for frame in found.frames]


# --- frames


def test_a_frames_wire_is_its_event_with_its_position_as_id() -> None:
    made = Frame(EPOCH, 1042, 1040, Event("a\nb", "tick", id="ignored", retry=250), 5.0, final=True)
    assert made.wire == b"event: tick\nretry: 250\ndata: a\ndata: b\nid: k3x9q0w2ab-1042\n\n"
    assert made.wire is made.wire
    assert (made.offset, made.previous, made.at, made.final) == (1042, 1040, 5.0, True)
    assert repr(made) == "<Frame k3x9q0w2ab-1042 tick final>"


def test_a_received_event_with_a_nul_in_its_type_has_a_wire() -> None:
    [received] = Decoder().feed(b"event: a\0b\ndata: x\n\n")
    assert Frame(EPOCH, 1, 0, received, 0.0).wire == b"event: a\0b\ndata: x\nid: k3x9q0w2ab-1\n\n"


any_text = st.text(st.characters(codec="utf-8") | st.sampled_from("\r\n"), max_size=30)
line_text = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=30)
any_event = st.builds(Event, any_text, line_text, st.none() | line_text, st.none() | st.integers(0, 2**53 - 1))


@relaxed
@given(any_event, st.integers(1, 10**18 - 1), st.sampled_from(["a", "z" * 32]))
def test_a_frames_size_is_at_least_that_of_its_wire(event: Event, offset: int, epoch: str) -> None:
    made = Frame(epoch, offset, 0, event, 0.0)
    assert len(made.wire) <= made.size <= len(made.wire) + 100 + 6 * event.data.count("\r\n") + event.data.count("\r")
    assert [id for _, _, id in reference_decode(made.wire).events] == [f"{epoch}-{offset}"]


@pytest.mark.parametrize("data", ["", "\n" * 1000, "\r" * 1000, "a\nb\rc", "여울" * 100, "\n여\r울" * 100])
@pytest.mark.parametrize("type", ["x", "여" * 100])
def test_a_frames_size_is_that_of_its_wire_where_every_field_is_as_long_as_it_can_be(data: str, type: str) -> None:
    made = Frame("z" * 32, 10**18 - 1, 0, Event(data, type, retry=2**53 - 1), 0.0)
    assert made.size == len(made.wire)


# --- what a retention may be


@pytest.mark.parametrize("field", ["events", "bytes", "seconds"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_retention_that_keeps_nothing_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match="a retention needs events >= 1, bytes >= 1 and seconds > 0"):
        Retention(**{field: value})


def test_a_retention_of_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds > 0"):
        Retention(seconds=float("nan"))


# --- reading


def test_a_new_journal_has_nothing_and_no_gap() -> None:
    journal = Journal(Retention())
    assert offsets(journal.after(0)) == []
    assert (len(journal), journal.size, journal.oldest, journal.last, journal.evicted) == (0, 0, None, 0, 0)
    assert not journal.final
    assert repr(journal) == "<Journal 0 frames, 0 bytes, offsets 0..0>"


def test_a_journal_of_a_forgotten_topic_knows_nothing_up_to_there() -> None:
    journal = Journal(Retention(), evicted=7)
    assert journal.after(6) is None
    assert offsets(journal.after(7)) == []
    assert journal.last == 7
    with pytest.raises(ValueError, match="offset 7 does not come after 7"):
        journal.append(frame(7))
    journal.append(frame(9))
    assert offsets(journal.after(7)) == [9]


@pytest.mark.parametrize(
    ("after", "found"),
    [(0, [2, 5, 9]), (1, [2, 5, 9]), (2, [5, 9]), (3, [5, 9]), (5, [9]), (8, [9]), (9, []), (10, []), (10**18, [])],
)
def test_a_reader_gets_the_frames_after_its_offset(after: int, found: list[int]) -> None:
    assert offsets(journal_of(2, 5, 9).after(after)) == found


def test_a_reader_before_the_oldest_kept_frame_has_a_gap_only_if_something_between_was_let_go() -> None:
    journal = journal_of(2, 5, 9, retention=Retention(events=2))
    assert journal.evicted == 2
    assert journal.after(1) is None
    assert offsets(journal.after(2)) == [5, 9]
    assert offsets(journal.after(4)) == [5, 9]


@pytest.mark.parametrize("offset", [0, 1, 2, 5])
def test_a_frame_that_does_not_come_after_the_last_is_refused_and_changes_nothing(offset: int) -> None:
    journal = journal_of(2, 5)
    before = journal.size
    with pytest.raises(ValueError, match=f"offset {offset} does not come after 5"):
        journal.append(frame(offset))
    assert (offsets(journal.after(0)), journal.size, journal.last) == ([2, 5], before, 5)


def test_a_slice_has_at_least_one_frame_and_whole_frames_up_to_its_bytes() -> None:
    journal = journal_of(1, 2, 3)
    one = frame(1).size
    for max_bytes, found, more in [
        (0, [1], True),
        (1, [1], True),
        (2 * one - 1, [1], True),
        (2 * one, [1, 2], True),
        (3 * one - 1, [1, 2], True),
        (3 * one, [1, 2, 3], False),
    ]:
        piece = journal.after(0, max_bytes)
        assert piece is not None
        assert (offsets(piece), piece.more) == (found, more)
    last = journal.after(2, 1)
    assert last is not None
    assert (offsets(last), last.more) == ([3], False)


def test_a_slice_that_was_read_does_not_change_afterwards() -> None:
    journal = journal_of(1, 2, retention=Retention(events=2))
    piece = journal.after(0)
    journal.append(frame(3))
    assert offsets(piece) == [1, 2]


@pytest.mark.parametrize(("count", "after"), [(0, 9), (1, 5), (2, 2), (3, 0), (4, 0), (10**9, 0)])
def test_a_tail_is_the_newest_frames(count: int, after: int) -> None:
    assert journal_of(2, 5, 9).tail(count) == after


def test_a_tail_of_an_empty_journal_is_where_it_stands() -> None:
    assert Journal(Retention()).tail(5) == 0
    assert Journal(Retention(), evicted=7).tail(0) == 7


def test_final_says_whether_the_newest_frame_was_it_kept_or_not() -> None:
    journal = journal_of(1)
    assert not journal.final
    journal.append(frame(2, final=True))
    assert journal.final
    journal.expire(1e12)
    assert len(journal) == 0
    assert (journal.final, journal.last) == (True, 2)
    journal.append(frame(3))
    assert not journal.final


def test_a_gap_says_where_to_go_on() -> None:
    journal = journal_of(2, 5, 9, retention=Retention(events=2))
    assert journal.oldest is not None
    gap = Gap(Cursor(EPOCH, 1), Cursor(EPOCH, journal.oldest.offset), "evicted", journal.evicted)
    assert offsets(journal.after(gap.resume)) == [5, 9]


# --- letting go


def test_the_newest_frame_is_kept_even_if_it_alone_is_over_the_bounds() -> None:
    journal = Journal(Retention(events=1, bytes=10, seconds=1))
    journal.append(frame(1, "x" * 1000))
    assert offsets(journal.after(0)) == [1]
    journal.append(frame(2, "x" * 2000, at=100.0))
    assert offsets(journal.after(1)) == [2]
    assert journal.after(0) is None


def test_frames_expire_when_they_are_older_than_the_retention_not_before() -> None:
    journal = Journal(Retention(seconds=10))
    journal.append(frame(1, at=0.0))
    journal.append(frame(2, at=5.0))
    journal.expire(10.0)
    assert len(journal) == 2
    journal.expire(10.1)
    assert offsets(journal.after(1)) == [2]
    journal.expire(15.1)
    assert (len(journal), journal.size, journal.evicted, journal.oldest) == (0, 0, 2, None)
    assert journal.after(1) is None
    assert offsets(journal.after(2)) == []


def test_a_new_frame_lets_go_of_the_old_ones_of_its_topic() -> None:
    journal = Journal(Retention(seconds=10))
    for offset, at in [(1, 0.0), (2, 5.0), (3, 15.0)]:
        journal.append(frame(offset, at=at))
    assert offsets(journal.after(1)) == [2, 3]
    journal.append(frame(4, at=15.1))
    assert offsets(journal.after(2)) == [3, 4]


def test_the_bounds_themselves_are_still_kept() -> None:
    size = frame(1).size
    for retention in (Retention(events=2), Retention(bytes=2 * size)):
        journal = journal_of(1, 2, retention=retention)
        assert offsets(journal.after(0)) == [1, 2]
        journal.append(frame(3))
        assert offsets(journal.after(1)) == [2, 3]


def test_a_frame_that_was_let_go_is_not_kept_in_memory() -> None:
    """Under the batch size of the cut, a topic of large events would hold sixty of them beyond its bound."""

    class Text(str):
        """Text that can be watched."""

    journal = Journal(Retention(events=2))
    watched = []
    for offset in range(1, 61):
        text = Text(f"event {offset}")
        watched.append(weakref.ref(text))
        journal.append(Frame(EPOCH, offset, offset - 1, Event(text), 0.0))
        del text
    assert [ref() is not None for ref in watched] == [False] * 58 + [True] * 2
    journal.expire(1e9)
    assert not any(ref() for ref in watched)


def test_the_journal_of_a_long_stream_stays_small() -> None:
    journal = Journal(Retention(events=10))
    for offset in range(1, 10_001):
        journal.append(frame(offset))
    assert len(journal._frames) == len(journal._offsets) <= 140
    assert offsets(journal.after(9_990)) == list(range(9_991, 10_001))


class JournalMachine(RuleBasedStateMachine):
    """A journal and its readers against a list that is walked from end to end."""

    @initialize(
        events=st.integers(1, 150),
        size=st.integers(1, 8_000),
        seconds=st.sampled_from([1.0, 5.0, 1e9]),
        evicted=st.sampled_from([0, 0, 40]),
    )
    def begin(self, events: int, size: int, seconds: float, evicted: int) -> None:
        self.retention = Retention(events, size, seconds)
        self.journal = Journal(self.retention, evicted=evicted)
        self.start = self.last = evicted
        self.now = 0.0
        self.final = False
        self.everything: list[Frame] = []
        self.kept: list[Frame] = []
        # Reader → its offset, and what it must be given next or hear of as lost.
        self.readers: dict[int, int] = {}

    @rule(count=st.integers(1, 90), step=st.integers(1, 3), length=st.integers(0, 40), final=st.booleans())
    def publish(self, count: int, step: int, length: int, final: bool) -> None:
        for _ in range(count):
            made = frame(self.last + step, "x" * length, at=self.now, previous=self.last, final=final)
            self.journal.append(made)
            self.everything.append(made)
            self.kept.append(made)
            self.last, self.final = made.offset, final
            while len(self.kept) > 1 and self.over_a_bound():
                self.kept.pop(0)

    def over_a_bound(self) -> bool:
        too_old = self.now - self.kept[0].at > self.retention.seconds
        size = sum(frame.size for frame in self.kept)
        return len(self.kept) > self.retention.events or size > self.retention.bytes or too_old

    @rule(seconds=st.sampled_from([0.0, 0.4, 1.0, 3.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.journal.expire(self.now)
        while self.kept and self.now - self.kept[0].at > self.retention.seconds:
            self.kept.pop(0)

    @rule()
    def clear(self) -> None:
        self.journal.clear()
        self.kept.clear()

    @rule(reader=st.integers(0, 3), count=st.integers(0, 200))
    def join_at_the_tail(self, reader: int, count: int) -> None:
        self.readers[reader] = self.journal.tail(count)
        newest = self.kept[-count:] if count else []
        assert offsets(self.journal.after(self.readers[reader])) == [frame.offset for frame in newest]

    @rule(reader=st.integers(0, 3), offset=st.integers(0, 600))
    def join_anywhere(self, reader: int, offset: int) -> None:
        self.readers[reader] = offset

    @rule(reader=st.integers(0, 3), max_bytes=st.integers(0, 4_000) | st.just(1 << 62))
    def read(self, reader: int, max_bytes: int) -> None:
        offset = self.readers.setdefault(reader, self.start)
        piece = self.journal.after(offset, max_bytes)
        gone = self.everything[: len(self.everything) - len(self.kept)]
        lost = offset < self.start or any(frame.offset > offset for frame in gone)
        assert (piece is None) == lost
        if piece is None:
            self.readers[reader] = self.journal.evicted
            return
        due = [frame for frame in self.kept if frame.offset > offset]
        # Nothing lost, nothing repeated, nothing out of order: the first of those that are due, as they are.
        assert list(piece.frames) == due[: len(piece.frames)]
        assert piece.more == (len(piece.frames) < len(due))
        fit = sum(size <= max_bytes for size in accumulate(frame.size for frame in due))
        assert len(piece.frames) == max(fit, min(1, len(due)))
        if piece.frames:
            self.readers[reader] = piece.frames[-1].offset

    @invariant()
    def it_is_what_the_list_is(self) -> None:
        if not hasattr(self, "journal"):
            return
        journal, kept = self.journal, self.kept
        assert len(journal) == len(kept)
        assert journal.size == sum(frame.size for frame in kept)
        assert journal.oldest is (kept[0] if kept else None)
        assert (journal.last, journal.final) == (self.last, self.final)
        gone = len(self.everything) - len(kept)
        assert journal.evicted == (self.everything[gone - 1].offset if gone else self.start)
        assert len(journal) <= self.retention.events
        assert len(journal) <= 1 or journal.size <= self.retention.bytes
        assert all(frame.offset not in range(journal.evicted + 1) for frame in kept)


TestJournalAgainstAList = JournalMachine.TestCase
TestJournalAgainstAList.settings = settings(deadline=None, derandomize=True, max_examples=120, stateful_step_count=30)
