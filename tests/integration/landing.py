"""A qcow2 image that is filled by a process of its own, to be killed."""

import logging
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.landing import open_landing
from hyperctl.activities.export.ledger import LedgerHeader
from hyperctl.activities.export.qcow2_image import Qcow2Image
from hyperctl.workflows.status import Phase

from .exporting import processes


def start_landing(path: Path, ledger: Path, header: LedgerHeader, content: bytes, seed: int) -> BaseProcess:
    """Land the blocks of a disk in an order of their own, with a sync now and then, for ever."""
    worker = processes.Process(target=_land, args=(path, ledger, header, content, seed))
    worker.start()
    return worker


def _land(path: Path, ledger: Path, header: LedgerHeader, content: bytes, seed: int) -> None:
    running = Attempt(Phase.EXPORT, logging.getLogger())
    source = random.Random(seed)
    with open_landing(
        lambda fresh: Qcow2Image(path, header.capacity_bytes, running, fresh=fresh), ledger, header
    ) as landing:
        order = list(range(header.blocks))
        source.shuffle(order)
        for block in order:
            start = block * header.block_bytes
            landing.land(block, content[start : start + header.length(block)])
            if source.random() < 0.3:
                landing.sync()
        while True:
            time.sleep(1)
