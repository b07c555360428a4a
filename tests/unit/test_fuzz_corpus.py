"""Everything that the fuzzers began from or found, replayed without them."""

from pathlib import Path

import pytest

from tests.fuzz.targets import fuzz_ovf, fuzz_vmdk

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
TARGETS = {"vmdk": fuzz_vmdk, "ovf": fuzz_ovf}
FILES = sorted(path.relative_to(CORPUS) for path in CORPUS.glob("*/*"))


def test_there_is_a_corpus() -> None:
    assert {file.parts[0] for file in FILES} == set(TARGETS)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_replay(file: Path) -> None:
    TARGETS[file.parts[0]]((CORPUS / file).read_bytes())
