"""What an NBD server and its client say to each other: the read-only part of the NBD protocol. Pure.

Follows doc/proto.md of the NBD project: fixed newstyle negotiation, simple replies.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

GREETING = b"NBDMAGIC" + b"IHAVEOPT"
LARGEST_OPTION_BYTES = 64 << 10
LARGEST_READ_BYTES = 32 << 20
"""What a client may count on that has not asked for a limit."""
PREFERRED_BYTES = 64 << 10

_OPTION_MAGIC = 0x49484156454F5054
_OPTION_REPLY_MAGIC = 0x0003E889045565A9
_REQUEST_MAGIC = 0x25609513
_REPLY_MAGIC = 0x67446698

_OPTION = struct.Struct(">QII")
_OPTION_REPLY = struct.Struct(">QIII")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
OPTION_BYTES = _OPTION.size
REQUEST_BYTES = _REQUEST.size


class Handshake(IntFlag):
    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7


class OptionReply(IntEnum):
    ACK = 1
    SERVER = 2
    INFO = 3
    UNSUPPORTED = 1 << 31 | 1
    INVALID = 1 << 31 | 3


class Info(IntEnum):
    EXPORT = 0
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    HAS_FLAGS = 1
    READ_ONLY = 2
    CAN_MULTI_CONN = 1 << 8


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3


class Errno(IntEnum):
    NONE = 0
    IO = 5
    INVALID = 22


EXPORT_FLAGS = ExportFlag.HAS_FLAGS | ExportFlag.READ_ONLY | ExportFlag.CAN_MULTI_CONN


class ProtocolError(Exception):
    """The client does not speak the protocol."""


@dataclass(frozen=True, slots=True)
class Request:
    command: int
    cookie: int
    offset_bytes: int
    length_bytes: int

    def refusal(self, capacity_bytes: int) -> Errno:
        """What is wrong with it, for a disk of that size."""
        if self.command == Command.FLUSH:
            return Errno.NONE
        if self.command != Command.READ or not 0 < self.length_bytes <= LARGEST_READ_BYTES:
            return Errno.INVALID
        return Errno.NONE if self.offset_bytes + self.length_bytes <= capacity_bytes else Errno.INVALID


def read_option(data: bytes) -> tuple[int, int]:
    """An option's number and the length of what follows. Raises `ProtocolError`."""
    magic, option, length = _OPTION.unpack(data)
    if magic != _OPTION_MAGIC or length > LARGEST_OPTION_BYTES:
        raise ProtocolError("no option of the fixed newstyle negotiation")
    return option, length


def option_reply(option: int, kind: OptionReply, data: bytes = b"") -> bytes:
    return _OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def export_reply(option: int, capacity_bytes: int) -> bytes:
    """The answer to `INFO` and `GO`: what the export is."""
    export = struct.pack(">HQH", Info.EXPORT, capacity_bytes, EXPORT_FLAGS)
    sizes = struct.pack(">HIII", Info.BLOCK_SIZE, 1, PREFERRED_BYTES, LARGEST_READ_BYTES)
    return (
        option_reply(option, OptionReply.INFO, export)
        + option_reply(option, OptionReply.INFO, sizes)
        + option_reply(option, OptionReply.ACK)
    )


def old_export_reply(capacity_bytes: int, *, zeroes: bool) -> bytes:
    """The answer to `EXPORT_NAME`, which has no frame of its own."""
    return struct.pack(">QH", capacity_bytes, EXPORT_FLAGS) + bytes(124 if zeroes else 0)


def read_request(data: bytes) -> Request:
    """Raises `ProtocolError`."""
    magic, _flags, command, cookie, offset, length = _REQUEST.unpack(data)
    if magic != _REQUEST_MAGIC:
        raise ProtocolError("no request")
    return Request(command, cookie, offset, length)


def reply(request: Request, error: Errno = Errno.NONE) -> bytes:
    """The head of a simple reply; what was read follows it."""
    return _REPLY.pack(_REPLY_MAGIC, error, request.cookie)
