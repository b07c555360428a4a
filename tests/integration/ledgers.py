"""What a copy has recorded so far, looked at while it goes on."""

from pathlib import Path

from hyperctl.activities.export.ledger import Ledger, LedgerError, read_ledger


def recorded(path: Path) -> Ledger | None:
    """None where there is no ledger yet, or one of which not even the header is written."""
    try:
        return read_ledger(path)
    except (FileNotFoundError, LedgerError):
        return None


def is_whole(path: Path) -> bool:
    ledger = recorded(path)
    return ledger is not None and ledger.finish is not None


def known_blocks(path: Path) -> int:
    ledger = recorded(path)
    return ledger.blocks.known_count if ledger else 0


def received_bytes(path: Path) -> int:
    ledger = recorded(path)
    return ledger.received_bytes if ledger else 0
