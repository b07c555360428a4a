"""Fuzzing of descriptor, manifest and archive: `python -m tests.fuzz.fuzz_ovf -max_total_time=300`."""

import atheris

with atheris.instrument_imports(include=["hyperctl.activities.source"]):
    from tests.fuzz.targets import fuzz_ovf

from tests.fuzz.run import run

if __name__ == "__main__":
    run("ovf", fuzz_ovf)
