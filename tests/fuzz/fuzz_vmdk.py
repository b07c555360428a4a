"""Fuzzing of the readers of disk images: `python -m tests.fuzz.fuzz_vmdk -max_total_time=300`."""

import atheris

with atheris.instrument_imports(include=["hyperctl.activities.source", "hyperctl.activities.export.vmdk"]):
    from tests.fuzz.targets import fuzz_vmdk

from tests.fuzz.run import run

if __name__ == "__main__":
    run("vmdk", fuzz_vmdk)
