"""`make demo` and `make demo-down` delete what the demo has made, and nothing that was made beside it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.dev.demo import VM, NotTheDemos, clear, domains_over
from deploy.dev.libvirt import virsh
from deploy.dev.stack import Stack
from hyperctl.activities.target.domain import METADATA_NAMESPACE

XML = """<domain type='qemu'><name>{name}</name>{metadata}<memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os><devices><disk type='file' device='disk'>
<driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices>
</domain>"""
OURS = f"<metadata><m:migration xmlns:m='{METADATA_NAMESPACE}' job='job-1'/></metadata>"


class Site:
    """A stack that was never up, with domains over its images."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder / "stack", output_dir=folder / "out")
        self.stack.folder.mkdir()
        self.names: list[str] = []

    def define(self, metadata: str) -> str:
        name = f"hyperctl-demo-test-{uuid.uuid4().hex[:8]}"
        disk = self.images(name) / "disk1.raw"
        disk.write_bytes(bytes(1 << 20))
        file = self.stack.folder / "domain.xml"
        file.write_text(XML.format(name=name, metadata=metadata, disk=disk))
        assert virsh("define", str(file)).returncode == 0
        self.names.append(name)
        return name

    def images(self, vm: str) -> Path:
        folder = self.stack.output_dir / "2026-01-17" / vm
        folder.mkdir(parents=True)
        return folder


@pytest.fixture
def site(tmp_path: Path, libvirt_uri: str) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    for name in found.names:
        virsh("undefine", name)


def test_what_was_made_beside_the_demo_is_named_and_stays_until_all_is_to_go(site: Site) -> None:
    name = site.define(OURS)
    with pytest.raises(NotTheDemos, match=name):
        clear(site.stack)
    assert [domain.name for domain in domains_over(site.stack)] == [name]
    assert site.stack.output_dir.exists()
    clear(site.stack, everything=True)
    assert not site.stack.output_dir.exists()
    assert virsh("dominfo", name).returncode != 0


def test_a_domain_of_somebody_elses_over_the_images_is_never_left_without_its_disks(site: Site) -> None:
    name = site.define("")
    with pytest.raises(NotTheDemos, match=name):
        clear(site.stack, everything=True)
    assert site.stack.output_dir.exists()


def test_the_demos_own_goes_without_a_word(site: Site) -> None:
    site.images(VM)
    clear(site.stack)
    assert not site.stack.output_dir.exists()
