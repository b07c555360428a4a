"""`make bench`: measure ours against a peer in the same run; the tables are also kept in build/bench/."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.dev.layout import BUILD
from tests.bench.convert import measure_convert
from tests.bench.copy import measure_copy
from tests.bench.rehearse import measure_rehearse
from tests.bench.row import Row, table

BENCHES: dict[str, Callable[[Path], list[Row]]] = {
    "convert": measure_convert,
    "copy": measure_copy,
    "rehearse": measure_rehearse,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHES)}; all when none is given")
    names = parser.parse_args(arguments).names or list(BENCHES)
    unknown = sorted(set(names) - BENCHES.keys())
    if unknown:
        parser.error(f"there is no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    folder = BUILD / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rows = BENCHES[name](folder)
        print(table(rows), flush=True)
        document = [row.model_dump() for row in rows]
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
