"""The ledger: durable records, torn tails, one digest for one content."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.export.ledger import (
    BLOCK_BYTES,
    BlockMap,
    LedgerError,
    LedgerHeader,
    LedgerWriter,
    create_ledger,
    read_ledger,
    recover_ledger,
    zero_digest,
)

CAPACITY = 5 * BLOCK_BYTES + 1536
HEADER = LedgerHeader(CAPACITY, "vcenter.example.com\nvm-7\n[data store] web 01/web%.vmdk")


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    path = tmp_path / "disk1.ledger"
    writer = create_ledger(path, HEADER)
    writer.record(1, digest("one"))
    writer.commit()
    writer.record(5, digest("the last, short one"))
    writer.record_zeroes(range(1))
    writer.record_zeroes(range(2, 5))
    writer.received_bytes += 1234
    writer.finish(5678, "sha1:abc")
    writer.close()
    return path


def test_what_was_recorded_is_read(finished: Path) -> None:
    ledger = read_ledger(finished)
    assert ledger.header == HEADER
    assert ledger.finish is not None
    assert (ledger.finish.received_bytes, ledger.finish.allocated_bytes) == (1234, 5678)
    assert ledger.finish.source_checksum == "sha1:abc"
    assert [ledger.blocks.is_zero(block) for block in range(6)] == [True, False, True, True, True, False]
    assert ledger.blocks.digest(1) == digest("one")
    assert ledger.valid_bytes == finished.stat().st_size


def test_it_is_text_with_runs_of_zeroes_in_one_line(finished: Path) -> None:
    lines = finished.read_text().splitlines()
    assert lines[0].startswith(
        f"hyperctl-ledger 2 blake3 {BLOCK_BYTES} {CAPACITY} vcenter.example.com%0Avm-7%0A"
    )
    assert lines[1].startswith(f"data {BLOCK_BYTES} {BLOCK_BYTES} {digest('one').hex()} ")
    assert [line.rsplit(" ", 1)[0] for line in lines if line.startswith("zero")] == [
        f"zero 0 {BLOCK_BYTES}",
        f"zero {2 * BLOCK_BYTES} {3 * BLOCK_BYTES}",
    ]


def test_records_are_not_written_before_a_commit(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    writer = create_ledger(path, HEADER)
    writer.record(0, digest("zero"))
    assert not read_ledger(path).blocks.known(0)
    writer.commit()
    assert read_ledger(path).blocks.known(0)
    writer.close()


def test_a_torn_tail_is_cut_off_wherever_it_was_torn(finished: Path) -> None:
    whole = finished.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(ends[0], len(whole)):
        finished.write_bytes(whole[:size])
        ledger = recover_ledger(finished)
        assert ledger is not None
        assert ledger.finish is None
        assert finished.stat().st_size == max(end for end in ends if end <= size)


def test_without_a_header_nothing_can_be_used(finished: Path) -> None:
    whole = finished.read_bytes()
    finished.write_bytes(whole[: whole.index(b"\n")])
    assert recover_ledger(finished) is None
    with pytest.raises(LedgerError):
        read_ledger(finished)
    assert recover_ledger(finished.with_name("missing")) is None


def test_any_flipped_bit_ends_what_is_believed(finished: Path) -> None:
    whole = bytearray(finished.read_bytes())
    for at in range(whole.index(b"\n") + 1, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x04
        finished.write_bytes(damaged)
        ledger = read_ledger(finished)
        assert ledger.finish is None
        assert ledger.valid_bytes <= at


def test_a_finish_record_must_agree_with_the_blocks(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    writer = create_ledger(path, HEADER)
    writer.record_zeroes(range(HEADER.blocks))
    writer.finish(0, "")
    writer.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    assert read_ledger(path).finish is None, "the blocks it speaks of are not there"


def test_a_ledger_is_gone_on_with(finished: Path) -> None:
    known = recover_ledger(finished)
    assert known is not None
    writer = LedgerWriter(finished, known)
    writer.record_lost(range(1, 3))
    writer.record_version('an "etag"')
    writer.commit()
    lost = read_ledger(finished)
    assert lost.finish is None, "what was lost takes the finish back"
    assert lost.blocks.missing() == [1, 2]
    assert (lost.version, lost.received_bytes) == ('an "etag"', 1234)
    writer.record(1, digest("one"))
    writer.record(2, None)
    writer.received_bytes += 1
    again = writer.finish(5678, "")
    writer.close()
    assert again.received_bytes == 1235
    assert read_ledger(finished).finish == again
    assert known.finish is not None
    assert again.root_digest == known.finish.root_digest


def test_a_disk_that_is_whole_takes_no_more_records(finished: Path) -> None:
    known = recover_ledger(finished)
    assert known is not None
    writer = LedgerWriter(finished, known)
    writer.record(1, digest("another"))
    writer.commit()
    writer.close()
    ledger = read_ledger(finished)
    assert ledger.finish == known.finish
    assert ledger.blocks.digest(1) == digest("one")


def test_the_memory_of_the_largest_disk_is_bounded() -> None:
    for capacity in (1, 8 << 40, (8 << 40) + 1, 62 << 40):
        header = LedgerHeader.of(capacity, "x")
        assert header.blocks <= 1 << 21
        assert header.block_bytes * header.blocks >= capacity
    assert LedgerHeader.of(8 << 40, "x").block_bytes == BLOCK_BYTES


def test_a_disk_with_missing_blocks_has_no_root_digest() -> None:
    blocks = BlockMap(HEADER)
    blocks.set(0, None)
    with pytest.raises(LedgerError):
        blocks.root_digest()


@given(st.permutations(range(6)), st.permutations(range(6)), st.booleans())
def test_the_root_digest_does_not_depend_on_order_or_on_how_zeroes_came(
    one: list[int], other: list[int], told_as_zero: bool
) -> None:
    first, second = BlockMap(HEADER), BlockMap(HEADER)
    for block in one:
        first.set(block, None if block % 2 else digest(str(block)))
    for block in other:
        zero = None if told_as_zero else zero_digest(HEADER.algorithm, HEADER.length(block))
        second.set(block, zero if block % 2 else digest(str(block)))
    assert first.root_digest() == second.root_digest()


def test_the_root_digest_is_what_the_documentation_says() -> None:
    blocks = BlockMap(LedgerHeader(BLOCK_BYTES + 512, "x", algorithm="sha256"))
    blocks.set(0, digest("content"))
    blocks.set(1, None)
    text = (
        f"0 {BLOCK_BYTES} {digest('content').hex()}\n"
        f"{BLOCK_BYTES} 512 {hashlib.sha256(bytes(512)).hexdigest()}\n"
    )
    assert blocks.root_digest() == hashlib.sha256(text.encode()).hexdigest()


@given(st.binary(max_size=400))
def test_no_junk_is_taken_for_a_ledger(junk: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        path.write_bytes(junk)
        assert recover_ledger(path) is None
