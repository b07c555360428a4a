"""Reading a tar archive in order, from a stream, without trusting it. Pure.

Follows POSIX.1-2001 (pax: ustar headers, extended headers `x` and `g`) and GNU tar (long names `L`, sizes in
base 256). Regular files only: links, devices and folders have no place in an appliance.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK_BYTES = 512
MOST_MEMBER_BYTES = 64 << 40
_MOST_EXTENSION_BYTES = 64 << 10
_MOST_MEMBERS = 1000
_MOST_PADDING_BYTES = 16 << 20
_SKIP_BYTES = 1 << 20
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a FIFO",
    b"K": "a link with a long name",
    b"S": "a sparse file of GNU tar",
    b"M": "a part of a file of another volume",
}


class TarError(ValueError):
    """It is no tar archive, or is damaged."""


class TarTruncated(TarError):
    """It ends before its end marker."""


class TarForbidden(TarError):
    """It holds something else than regular files."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in the archive. The name is as written and may be anything."""

    name: str
    offset_bytes: int
    """Of its first byte, from the archive's beginning."""
    size_bytes: int


class TarReader:
    """One pass over an archive.

    `read(size)` gives at most so many bytes and none only at the end. `skip(size)`, where there is one,
    passes over bytes that nobody wants and raises `TarTruncated` where there are fewer.
    """

    def __init__(self, read: Callable[[int], bytes], skip: Callable[[int], None] | None = None) -> None:
        self._source = read
        self._source_skip = skip
        self._at = 0
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[TarMember]:
        """Every file in order. What was not read of one is skipped when the next is asked for."""
        count = 0
        long_name: str | None = None
        extended: dict[str, str] = {}
        while (header := self._header()) is not None:
            kind = header[156:157]
            size = _number(header[124:136])
            if kind in (b"L", b"x", b"g"):
                data = self._extension(size)
                if kind == b"L":
                    long_name = _text(data.rstrip(b"\0"))
                elif kind == b"x":
                    extended = _records(data)
                elif _records(data).keys() & {"path", "size", "linkpath"}:
                    raise TarForbidden("a global header names all of its members alike")
                continue
            name = extended.get("path") or long_name or _name(header)
            if kind not in (b"\0", b"0", b"7"):
                raise TarForbidden(
                    f"its member {name!r} is {_KINDS.get(kind, f'of the unknown type {kind!r}')}"
                )
            if any(key.startswith("GNU.sparse") for key in extended):
                raise TarForbidden(f"its member {name!r} is {_KINDS[b'S']}")
            size = _decimal(extended["size"]) if "size" in extended else size
            if size > MOST_MEMBER_BYTES:
                raise TarError(f"its member {name!r} is said to have {size} bytes")
            count += 1
            if count > _MOST_MEMBERS:
                raise TarError(f"it has more than {_MOST_MEMBERS} members")
            self._left, self._padding = size, -size % BLOCK_BYTES
            long_name, extended = None, {}
            yield TarMember(name, self._at, size)
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
        if long_name is not None or extended:
            raise TarError("its last header announces a member that does not come")

    def read(self, size: int) -> bytes:
        """At most so many bytes of the current member; none at its end. Raises `TarTruncated`."""
        data = self._source(min(size, self._left))
        if not data and size and self._left:
            raise TarTruncated(f"it ends {self._left} bytes before the end of a member")
        self._at += len(data)
        self._left -= len(data)
        return data

    def _header(self) -> bytes | None:
        block = self._exactly(BLOCK_BYTES)
        if any(block):
            _check_sum(block)
            return block
        self._end()
        return None

    def _end(self) -> None:
        """Two blocks of zeroes end an archive; some writers make it one, most pad to a full record."""
        seen = 0
        while data := self._source(_SKIP_BYTES):
            seen += len(data)
            if any(data) or seen > _MOST_PADDING_BYTES:
                raise TarError("something follows its end marker")

    def _extension(self, size: int) -> bytes:
        if size > _MOST_EXTENSION_BYTES:
            raise TarError(f"an extended header is said to have {size} bytes")
        return self._exactly(size + -size % BLOCK_BYTES)[:size]

    def _skip(self, size: int) -> None:
        if size and self._source_skip is not None:
            self._source_skip(size)
            self._at += size
            return
        while size > 0:
            size -= len(self._exactly(min(size, _SKIP_BYTES)))

    def _exactly(self, size: int) -> bytes:
        parts = []
        left = size
        while left:
            data = self._source(left)
            if not data:
                raise TarTruncated("it ends before its end marker")
            parts.append(data)
            left -= len(data)
        self._at += size
        return b"".join(parts)


def is_tar(block: bytes) -> bool:
    """Whether a file that begins with this block may be a tar archive."""
    try:
        _check_sum(block)
    except TarError:
        return False
    return True


def _check_sum(block: bytes) -> None:
    """Some old writers add the bytes as signed ones."""
    if len(block) < BLOCK_BYTES:
        raise TarError("it is no tar archive")
    try:
        stated = _number(block[148:156])
    except TarError:
        stated = -1
    counted = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(counted)
    if stated not in (unsigned, unsigned - 256 * sum(byte > 127 for byte in counted)):
        raise TarError("a header in it is damaged, or it is no tar archive")


def _number(field: bytes) -> int:
    """Octal digits, or a number in base 256 when the first byte's highest bit is set (GNU tar)."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise TarError("a header gives a negative number, or one without end")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not all(byte in b"01234567" for byte in digits):
        raise TarError("a header gives a size that is no number")
    return int(digits, 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise TarError("an extended header gives a size that is no number")
    return int(text)


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise TarError(f"a member's name is no UTF-8: {raw[:60]!r}") from error


def _records(data: bytes) -> dict[str, str]:
    """Records of a pax header: `LENGTH KEY=VALUE` and a line's end, the length counting all of it."""
    found: dict[str, str] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        length = int(digits) if space and digits.isdigit() and len(digits) <= 6 else 0
        record = data[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not equals or length > len(data) or not record.endswith(b"\n"):
            raise TarError("an extended header is damaged")
        found[_text(key)] = _text(value[:-1]) if key in (b"path", b"size", b"linkpath") else ""
        data = data[length:]
    return found
