"""The guest's screen: as a PNG for a person, and as text where it is in VGA text mode.

Formats: Netpbm's PPM (P6) from qemu; PNG, W3C specification, sections 5 and 11.
"""

import struct
import zlib

import libvirt

VGA_TEXT_ADDRESS = 0xB8000
VGA_COLUMNS = 80
VGA_ROWS = 25
VGA_TEXT_BYTES = VGA_COLUMNS * VGA_ROWS * 2

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST_SIDE = 16384


def take_picture(domain: libvirt.virDomain) -> bytes:
    """The screen as libvirt delivers it. Raises `libvirt.libvirtError`."""
    stream = domain.connect().newStream(0)
    picture = bytearray()

    def take(_stream: object, data: bytes, _opaque: object) -> int:
        picture.extend(data)
        return 0

    domain.screenshot(stream, 0, 0)
    stream.recvAll(take, None)
    stream.finish()
    return bytes(picture)


def png_of(picture: bytes) -> bytes:
    """A screenshot as PNG: newer libvirt delivers that, older a PPM. Raises ValueError for neither."""
    return picture if picture.startswith(PNG_SIGNATURE) else png_from_ppm(picture)


def png_from_ppm(ppm: bytes) -> bytes:
    """The same picture as PNG (8 bits, RGB). Raises ValueError for anything but an 8-bit P6 PPM."""
    width, height, pixels = _read_ppm(ppm)
    stride = width * 3
    rows = b"".join(b"\0" + pixels[row * stride : (row + 1) * stride] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        PNG_SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows, 6))
        + _chunk(b"IEND", b"")
    )


def _read_ppm(ppm: bytes) -> tuple[int, int, bytes]:
    fields: list[bytes] = []
    position = 0
    while len(fields) < 4 and position < len(ppm):
        if ppm[position : position + 1] == b"#":
            position = ppm.find(b"\n", position) + 1 or len(ppm)
        elif ppm[position : position + 1].isspace():
            position += 1
        else:
            start = position
            while position < len(ppm) and not ppm[position : position + 1].isspace():
                position += 1
            fields.append(ppm[start:position])
    if len(fields) != 4 or fields[0] != b"P6" or not all(field.isdigit() for field in fields[1:]):
        raise ValueError("not a binary PPM picture")
    width, height, depth = (int(field) for field in fields[1:])
    pixels = ppm[position + 1 :]
    sides_fit = 0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE
    if not sides_fit or depth != 255 or len(pixels) < width * height * 3:
        raise ValueError(
            f"a PPM picture of {width}x{height}, depth {depth}, {len(pixels)} bytes is not usable"
        )
    return width, height, pixels[: width * height * 3]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_from_vga(memory: bytes) -> str:
    """The screen's text from VGA text memory; empty where that holds anything but text.

    Each cell is a character and an attribute byte; in graphics modes the same memory holds pixels.
    """
    characters = memory[0:VGA_TEXT_BYTES:2]
    attributes = memory[1:VGA_TEXT_BYTES:2]
    if len(characters) < VGA_COLUMNS * VGA_ROWS or len(attributes) < len(characters):
        return ""
    printable = sum(32 <= value < 127 or value == 0 for value in characters)
    if printable < 0.9 * len(characters) or not any(attributes):
        return ""
    text = "".join(chr(value) if 32 <= value < 127 else " " for value in characters)
    rows = [text[start : start + VGA_COLUMNS].rstrip() for start in range(0, len(text), VGA_COLUMNS)]
    return "\n".join(rows).strip("\n")
