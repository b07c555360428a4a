"""Programmatic units as OVF writes them: DMTF DSP0004, appendix C, and the words of OVF 0.9. Pure."""

import re

_UNIT = re.compile(r"\s*bytes?\s*((?:\*\s*\d{1,20}\s*(?:\^\s*\d{1,2})?\s*)*)", re.IGNORECASE)
_FACTOR = re.compile(r"\*\s*(\d+)\s*(?:\^\s*(\d+))?")
_WORDS = {
    "kilobytes": 1 << 10,
    "kb": 1 << 10,
    "megabytes": 1 << 20,
    "mb": 1 << 20,
    "gigabytes": 1 << 30,
    "gb": 1 << 30,
    "terabytes": 1 << 40,
    "tb": 1 << 40,
}
_MOST = 1 << 60


class UnitError(ValueError):
    """A unit that is none of bytes."""


def bytes_of(unit: str) -> int:
    """How many bytes one of the unit is: `byte * 2^20`, `byte*1024`, `MegaBytes`. Raises `UnitError`."""
    word = unit.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    match = _UNIT.fullmatch(unit) if len(unit) <= 200 else None
    if match is None:
        raise UnitError(unit)
    product = 1
    for base, exponent in _FACTOR.findall(match[1]):
        product *= int(base) ** int(exponent or 1)
        if not 0 < product <= _MOST:
            raise UnitError(unit)
    return product
