"""Runs a fuzz target from the committed corpus; what it finds goes under `build/fuzz/`.

Any option of libFuzzer can be given. A crash is written to `build/fuzz/NAME-crash-...`; once it is fixed, the
file belongs into the corpus, which `tests/unit/test_fuzz_corpus.py` replays.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
FOUND = ROOT / "build" / "fuzz"


def run(name: str, target: Callable[[bytes], None]) -> None:
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    options = ["-max_len=16384", "-rss_limit_mb=1024", "-timeout=20", f"-artifact_prefix={FOUND}/{name}-"]
    argv = [sys.argv[0], *options, *sys.argv[1:], str(found), str(CORPUS / name)]
    atheris.Setup(argv, target)
    atheris.Fuzz()
