"""What an NBD server of ours takes of a client, and what not."""

import struct

import pytest

from hyperctl.activities.nbd.protocol import (
    LARGEST_READ_BYTES,
    Command,
    Errno,
    ProtocolError,
    Request,
    read_option,
    read_request,
)

MIB = 1 << 20


@pytest.mark.parametrize(
    ("command", "offset_bytes", "length_bytes", "refusal"),
    [
        (Command.READ, 0, 512, Errno.NONE),
        (Command.READ, MIB - 1, 1, Errno.NONE),
        (Command.READ, MIB - 1, 2, Errno.INVALID),
        (Command.READ, 1 << 63, 512, Errno.INVALID),
        (Command.READ, 0, 0, Errno.INVALID),
        (Command.READ, 0, LARGEST_READ_BYTES + 1, Errno.INVALID),
        (Command.FLUSH, 0, 0, Errno.NONE),
        (4, 0, 512, Errno.INVALID),
    ],
)
def test_a_request_is_held_against_the_disk(
    command: int, offset_bytes: int, length_bytes: int, refusal: Errno
) -> None:
    assert Request(command, 1, offset_bytes, length_bytes).refusal(MIB) == refusal


def test_what_is_no_request_ends_the_connection() -> None:
    assert read_request(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 4096, 512)) == Request(0, 7, 4096, 512)
    with pytest.raises(ProtocolError):
        read_request(bytes(28))


def test_an_option_is_never_longer_than_we_would_read() -> None:
    magic = int.from_bytes(b"IHAVEOPT", "big")
    assert read_option(struct.pack(">QII", magic, 7, 16)) == (7, 16)
    for wrong in (struct.pack(">QII", magic, 7, 1 << 20), bytes(16)):
        with pytest.raises(ProtocolError):
            read_option(wrong)
