"""OVAs read in one pass and by offset: every make of tar, and every lie that one can tell."""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.source.ova import Ova, OvaMember, OvaStream, read_ova
from hyperctl.activities.source.tar import TarMember, TarReader, TarTruncated
from hyperctl.workflows.errors import ErrorCode, PreflightError
from tests.unit.archives import envelope, manifest, tar

DISK = bytes(range(256)) * 5
CAPACITY = 1 << 20
OVF = envelope({"guest-1.vmdk": len(DISK)}, CAPACITY)
WHOLE = {
    "guest.ovf": OVF,
    "guest.mf": manifest({"guest.ovf": OVF, "guest-1.vmdk": DISK}),
    "guest-1.vmdk": DISK,
}


def streamed(data: bytes) -> dict[str, bytes]:
    stream = OvaStream(io.BytesIO(data).read, "guest.ova")
    return {member.name: b"".join(_pieces(member)) for member in stream.files()}


def _pieces(member: OvaMember) -> Iterator[bytes]:
    while data := member.read(100):
        yield data


def indexed(data: bytes) -> Ova:
    file = io.BytesIO(data)

    def skip(size: int) -> None:
        if file.seek(size, io.SEEK_CUR) > len(data):
            raise TarTruncated("cut")

    return read_ova(file.read, skip, "guest.ova")


def refused(data: bytes, read: Callable[[bytes], object] = streamed) -> PreflightError:
    with pytest.raises(PreflightError) as caught:
        read(data)
    assert all(failure.message.startswith("guest.ova") for failure in caught.value.failures)
    assert caught.value.failures[0].hint, "there is a way out"
    return caught.value


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_every_make_of_tar(format_: int) -> None:
    long_name = "disk" + "é" * 70 + "x" * 60 + ".vmdk" if format_ != tarfile.USTAR_FORMAT else "disk.vmdk"
    ovf = envelope({long_name: len(DISK)}, CAPACITY)
    data = tar({"guest.ovf": ovf, long_name: DISK}, format_)
    assert streamed(data) == {long_name: DISK}
    member = indexed(data).members[long_name]
    assert data[member.offset_bytes :][: member.size_bytes] == DISK


@pytest.mark.parametrize("name", ["a%20b%.vmdk", "a b%.vmdk"])
def test_a_name_may_be_encoded_or_not(name: str) -> None:
    """The reference is one of URI, and not every exporter knows."""
    ovf = envelope({"a%20b%.vmdk": len(DISK)}, CAPACITY)
    data = tar({"guest.ovf": ovf, name: DISK, "guest.mf": manifest({"guest.ovf": ovf, name: DISK})})
    assert streamed(data) == {name: DISK}
    assert indexed(data).members["a b%.vmdk"].name == name
    assert indexed(data).remarks == ()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("is_last", [False, True])
def test_the_manifest_may_come_early_or_late(algorithm: str, is_last: bool) -> None:
    stated = manifest({"guest.ovf": OVF, "guest-1.vmdk": DISK}, algorithm)
    order = ["guest.ovf", "guest-1.vmdk", "guest.mf"] if is_last else list(WHOLE)
    files = {**WHOLE, "guest.mf": stated}
    good = tar({name: files[name] for name in order})
    assert streamed(good) == {"guest-1.vmdk": DISK}
    bad = tar({name: DISK[:-1] + b"!" if name == "guest-1.vmdk" else files[name] for name in order})
    assert "'guest-1.vmdk' does not have the" in str(refused(bad))


def test_a_changed_descriptor_is_found_by_both() -> None:
    changed = tar({**WHOLE, "guest.ovf": OVF.replace(b"512", b"999")})
    for read in (streamed, indexed):
        assert "'guest.ovf' does not have the sha256" in str(refused(changed, read))


def test_a_member_that_nobody_reads_is_hashed_all_the_same() -> None:
    bad = tar({**WHOLE, "guest-1.vmdk": DISK[::-1]})

    def pass_over(data: bytes) -> None:
        for _ in OvaStream(io.BytesIO(data).read, "guest.ova").files():
            pass

    assert "'guest-1.vmdk' does not have the sha256" in str(refused(bad, pass_over))


def test_what_a_manifest_leaves_open_is_said() -> None:
    assert indexed(tar(WHOLE)).remarks == ()
    without = {"guest.ovf": OVF, "guest-1.vmdk": DISK}
    assert "no manifest" in indexed(tar(without)).remarks[0]
    partly = {"guest.ovf": OVF, "guest.mf": manifest({"guest.ovf": OVF}), "guest-1.vmdk": DISK}
    assert indexed(tar(partly)).remarks == ("the manifest has no digest of 'guest-1.vmdk'",)
    signed = {**WHOLE, "guest.cert": b"-----BEGIN CERTIFICATE-----"}
    assert indexed(tar(signed)).remarks == ("the signature 'guest.cert' is not checked",)


@pytest.mark.parametrize("read", [streamed, indexed])
@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        (
            {"guest-1.vmdk": DISK, "guest.ovf": OVF},
            ErrorCode.SOURCE_INVALID,
            "first member is 'guest-1.vmdk'",
        ),
        ({}, ErrorCode.SOURCE_INVALID, "first member is missing"),
        ({"guest.ovf": OVF}, ErrorCode.SOURCE_INVALID, "'guest-1.vmdk' of its descriptor is not in it"),
        ({**WHOLE, "extra.iso": b"x"}, ErrorCode.SOURCE_INVALID, "'extra.iso' is named nowhere"),
        ({**WHOLE, "../evil": b"x"}, ErrorCode.SOURCE_UNSAFE, "out of its folder"),
        ({**WHOLE, "/etc/passwd": b"x"}, ErrorCode.SOURCE_UNSAFE, "absolute"),
        ({**WHOLE, "a/b": b"x"}, ErrorCode.SOURCE_UNSAFE, "plain file name"),
        ({**WHOLE, "./guest-1.vmdk": b"x"}, ErrorCode.SOURCE_INVALID, "two members named 'guest-1.vmdk'"),
        (
            {"guest.ovf": OVF, "guest-1.vmdk": DISK + b"x"},
            ErrorCode.SOURCE_INVALID,
            "1281 bytes, where the descriptor says 1280",
        ),
    ],
)
def test_what_is_wrong_is_named(
    read: Callable[[bytes], object], members: dict[str, bytes], code: ErrorCode, words: str
) -> None:
    failures = refused(tar(members), read).failures
    assert any(failure.code is code and words in failure.message for failure in failures), failures


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "FIFO"),
        (tarfile.DIRTYPE, "folder"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (b"Z", "unknown type"),
    ],
)
def test_only_regular_files_are_taken(kind: bytes, words: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("guest.ovf")
        info.size = len(OVF)
        archive.addfile(info, io.BytesIO(OVF))
        other = tarfile.TarInfo("guest-1.vmdk")
        other.type, other.linkname = kind, "/etc/passwd"
        archive.addfile(other)
    error = refused(out.getvalue())
    assert error.code is ErrorCode.SOURCE_UNSAFE
    assert words in str(error)


@pytest.mark.parametrize("read", [streamed, indexed])
@given(cut=st.integers(0, len(tar(WHOLE)) - 1))
def test_a_cut_archive_is_never_taken_for_a_whole_one(read: Callable[[bytes], object], cut: int) -> None:
    data = tar(WHOLE)
    # What follows the first block of zeroes is padding.
    end = len(data.rstrip(b"\0")) // 512 * 512 + 1024
    if cut < end:
        refused(data[:cut], read)
    else:
        read(data[:cut])


def test_sizes_above_eight_gib() -> None:
    """Octal digits end there; GNU tar goes on in base 256, pax in a record of its own."""
    size = (8 << 30) + 512 * 3 + 7
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("big.vmdk")
        info.size = size
        header = info.tobuf(format_)
        file = io.BytesIO(header + bytes(1024))
        skipped: list[int] = []
        reader = TarReader(file.read, skipped.append)
        assert list(reader.members()) == [TarMember("big.vmdk", len(header), size)]
        assert skipped == [size + -size % 512]


def test_a_size_that_is_a_lie_ends_the_archive() -> None:
    info = tarfile.TarInfo("guest.ovf")
    info.size = 1 << 62
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    assert "is said to have" in str(refused(data))
    negative = bytearray(data)
    negative[124:136] = b"\xff" * 12
    assert "damaged" in str(refused(bytes(negative)))


def test_something_behind_the_end_is_refused() -> None:
    data = tar(WHOLE)
    assert streamed(data + bytes(100_000)) == {"guest-1.vmdk": DISK}
    assert "follows its end marker" in str(refused(data + tar(WHOLE)))


@given(st.data())
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(tar(WHOLE, tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for read in (streamed, indexed):
        with suppress(PreflightError):
            read(bytes(damaged))
