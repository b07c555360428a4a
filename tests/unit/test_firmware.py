"""Choosing UEFI firmware by its descriptors."""

import json
from pathlib import Path

from hyperctl.activities.target.firmware import find_firmware


def descriptor(
    folder: Path, name: str, *, features: tuple[str, ...] = (), machines: tuple[str, ...] = ("pc-q35-*",),
    present: bool = True, mode: str = "split", image_format: str = "raw",
) -> Path:  # fmt: skip
    folder.mkdir(exist_ok=True)
    code, variables = folder / f"{name}.code.fd", folder / f"{name}.vars.fd"
    if present:
        code.touch()
        variables.touch()
    document = {
        "description": name,
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "mode": mode,
            "executable": {"filename": str(code), "format": image_format},
            "nvram-template": {"filename": str(variables), "format": image_format},
        },
        "targets": [{"architecture": "x86_64", "machines": list(machines)}],
        "features": list(features),
        "tags": [],
    }
    (folder / f"{name}.json").write_text(json.dumps(document))
    return code


def test_the_first_that_fits_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "firmware"
    descriptor(folder, "10-absent", present=False)
    descriptor(folder, "15-qcow2", image_format="qcow2")
    descriptor(folder, "16-stateless", mode="stateless")
    secure = descriptor(folder, "20-enrolled", features=("secure-boot", "enrolled-keys", "requires-smm"))
    descriptor(folder, "30-secure-empty", features=("secure-boot", "requires-smm"))
    plain = descriptor(folder, "40-plain", machines=("pc-q35-*", "pc-i440fx-*"))
    found = find_firmware(secure_boot=False, folders=[folder])
    assert found is not None
    assert (found.code, found.secure_boot) == (str(plain), False)
    found = find_firmware(secure_boot=True, folders=[folder])
    assert found is not None
    assert (found.code, found.secure_boot) == (str(secure), True)
    old = find_firmware(secure_boot=False, q35=False, folders=[folder])
    assert old is not None
    assert old.code == str(plain)


def test_an_empty_file_of_the_administrator_hides_a_descriptor(tmp_path: Path) -> None:
    vendor, own = tmp_path / "vendor", tmp_path / "own"
    descriptor(vendor, "40-plain")
    own.mkdir()
    (own / "40-plain.json").touch()
    assert find_firmware(secure_boot=False, folders=[vendor, own]) is None


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert find_firmware(secure_boot=False, folders=[tmp_path / "nothing"]) is None
