"""An OVA: a tar with an OVF descriptor first, a manifest and the disks, read in one pass or by offset.

Follows DMTF DSP0243 1.1, 5.3. `OvaStream` takes the archive as it comes and hashes every file while it
is read; `read_ova` looks only at the headers of a seekable archive, for what wants to read a member by its
offset.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from hyperctl.activities.source.manifest import MOST_BYTES as MOST_MANIFEST_BYTES
from hyperctl.activities.source.manifest import Digest, DigestAlgorithm, Manifest, read_manifest
from hyperctl.activities.source.markup import MOST_BYTES as MOST_DESCRIPTOR_BYTES
from hyperctl.activities.source.names import objection
from hyperctl.activities.source.ovf import Ovf, read_ovf
from hyperctl.activities.source.ovf_disks import OvfFile
from hyperctl.activities.source.problems import Problems, shown
from hyperctl.activities.source.tar import TarError, TarForbidden, TarMember, TarReader, TarTruncated
from hyperctl.workflows.errors import PreflightError

_SKIP_BYTES = 1 << 20
_MAKE_ANEW = (
    "Unpack it (tar -xf) into an empty folder and give that folder; or make it anew of the plain files, "
    "the descriptor first (tar -cf NEW.ova NAME.ovf NAME.mf ...)."
)
_FETCH = "It was cut off or damaged: fetch it again."


@dataclass(frozen=True, slots=True)
class Ova:
    """What an archive holds."""

    ovf: Ovf
    manifest: Manifest | None
    members: dict[str, TarMember]
    """The package's files by the name of their `OvfFile`, without descriptor, manifest and certificate."""
    remarks: tuple[str, ...]


class OvaMember:
    """One file of the package, to be read now or never. Its digest is checked when its last byte is read."""

    def __init__(
        self, member: TarMember, read: Callable[[int], bytes], algorithms: frozenset[DigestAlgorithm]
    ) -> None:
        self.name = member.name
        self.size_bytes = member.size_bytes
        self.offset_bytes = member.offset_bytes
        self._read = read
        self._hashes = {algorithm: hashlib.new(algorithm.value) for algorithm in algorithms}

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end. Raises `PreflightError` where the archive is cut off."""
        data = self._read(size)
        for digest in self._hashes.values():
            digest.update(data)
        return data

    def digest(self, algorithm: DigestAlgorithm) -> Digest:
        """Of what was read."""
        return Digest(algorithm, self._hashes[algorithm].hexdigest())


class OvaStream:
    """One pass over an archive.

    `read` and `skip` are as `TarReader` takes them. The descriptor is read at once. Everything raises
    `PreflightError`, whose messages begin with the archive's name.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        file_name: str,
        skip: Callable[[int], None] | None = None,
    ) -> None:
        self._tar = TarReader(read, skip)
        self._skips = skip is not None
        self._problems = Problems(file_name)
        self._file_name = file_name
        self._members = self._checked_members()
        self._digests: dict[str, dict[DigestAlgorithm, Digest]] = {}
        self.manifest: Manifest | None = None
        self.remarks: list[str] = []
        self.seen: dict[str, TarMember] = {}
        first = next(self._members, None)
        if first is None or not first.name.lower().endswith(".ovf"):
            self._refuse(
                f"its first member is {shown(first.name) if first else 'missing'} and no .ovf descriptor",
                _MAKE_ANEW,
            )
        self.descriptor_name: str = first.name
        descriptor = self._whole(first, MOST_DESCRIPTOR_BYTES)
        self.ovf: Ovf = read_ovf(descriptor, f"{file_name}: {first.name}")

    def files(self) -> Iterator[OvaMember]:
        """Every file of the package in order; its rest is read and hashed when the next is asked for.

        The end comes only when every file of the descriptor was there and has the manifest's digest.
        """
        known = {name: file for file in self.ovf.files for name in file.names}
        stem = self.descriptor_name[: -len(".ovf")]
        for member in self._members:
            if member.name == f"{stem}.mf":
                self.manifest = read_manifest(
                    self._whole(member, MOST_MANIFEST_BYTES), f"{self._file_name}: {member.name}"
                )
            elif member.name == f"{stem}.cert":
                self.remarks.append(f"the signature {shown(member.name)} is not checked")
            elif member.name not in known:
                self._problems.invalid(
                    f"its member {shown(member.name)} is named nowhere in its descriptor",
                    "A package holds descriptor, manifest, certificate and the files of the descriptor.",
                )
            else:
                self._check_size(member, known[member.name])
                self.seen[known[member.name].name] = member
                opened = OvaMember(member, self._read, self._algorithms())
                yield opened
                self._finish(opened)
        self._check_whole()

    def _algorithms(self) -> frozenset[DigestAlgorithm]:
        """All of them as long as the manifest has not come: it may be the last member."""
        return frozenset(DigestAlgorithm) if self.manifest is None else self.manifest.algorithms

    def _checked_members(self) -> Iterator[TarMember]:
        names: set[str] = set()
        try:
            for member in self._tar.members():
                # `tar -cf x.ova ./x.ovf ...` writes such names.
                name = member.name.removeprefix("./")
                if wrong := objection(name):
                    self._problems.unsafe(
                        f"a member is named {wrong}", "A package's files lie beside each other."
                    )
                    self._problems.raise_any()
                if name in names:
                    self._refuse(f"it has two members named {shown(name)}", _MAKE_ANEW)
                names.add(name)
                yield TarMember(name, member.offset_bytes, member.size_bytes)
        except TarError as error:
            self._refuse_tar(error)

    def _whole(self, member: TarMember, most_bytes: int) -> bytes:
        if member.size_bytes > most_bytes:
            self._refuse(
                f"its member {shown(member.name)} has {member.size_bytes} bytes; {most_bytes} are taken"
            )
        opened = OvaMember(member, self._read, self._algorithms())
        parts = list(iter(lambda: opened.read(_SKIP_BYTES), b""))
        self._note(opened)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        try:
            return self._tar.read(size)
        except TarError as error:
            self._refuse_tar(error)

    def _finish(self, member: OvaMember) -> None:
        if self._skips:
            return
        while member.read(_SKIP_BYTES):
            pass
        self._note(member)
        self._check_digest(member.name)

    def _note(self, member: OvaMember) -> None:
        self._digests[member.name] = {algorithm: member.digest(algorithm) for algorithm in self._algorithms()}

    def _check_digest(self, name: str) -> None:
        expected = self.manifest.digests.get(name) if self.manifest else None
        if expected is not None and self._digests[name].get(expected.algorithm) != expected:
            self._refuse(
                f"its member {shown(name)} does not have the {expected.algorithm} of the manifest",
                "The archive was damaged or changed after it was made: fetch it again.",
            )

    def _check_size(self, member: TarMember, file: OvfFile) -> None:
        if file.size_bytes is not None and member.size_bytes != file.size_bytes:
            self._problems.invalid(
                f"its member {shown(member.name)} has {member.size_bytes} bytes, "
                f"where the descriptor says {file.size_bytes}",
                _FETCH,
            )

    def _check_whole(self) -> None:
        for file in self.ovf.files:
            if file.name not in self.seen:
                self._problems.invalid(
                    f"the file {shown(file.name)} of its descriptor is not in it", "Export it again, whole."
                )
        self._problems.raise_any()
        for name in self._digests:
            self._check_digest(name)
        self.remarks += manifest_remarks(
            self.manifest, (self.descriptor_name, *(member.name for member in self.seen.values()))
        )

    def _refuse(self, what: str, hint: str = "") -> NoReturn:
        self._problems.invalid(what, hint)
        raise PreflightError(self._problems.failures)

    def _refuse_tar(self, error: TarError) -> NoReturn:
        if isinstance(error, TarForbidden):
            self._problems.unsafe(str(error), _MAKE_ANEW)
        elif isinstance(error, TarTruncated):
            self._problems.invalid(str(error), _FETCH)
        else:
            self._problems.invalid(str(error), f"{_FETCH} If it was made so: {_MAKE_ANEW}")
        raise PreflightError(self._problems.failures) from error


def manifest_remarks(manifest: Manifest | None, names: tuple[str, ...]) -> list[str]:
    """What a manifest leaves open."""
    if manifest is None:
        return ["there is no manifest: nothing says whether the files are as they were made"]
    missing = [name for name in names if name not in manifest.digests]
    return [f"the manifest has no digest of {shown(name)}" for name in missing]


def read_ova(read: Callable[[int], bytes], skip: Callable[[int], None], file_name: str) -> Ova:
    """Look over a seekable archive without reading its disks; digests are not checked, but the descriptor's.

    Raises `PreflightError` with everything that is wrong with it.
    """
    stream = OvaStream(read, file_name, skip)
    for _ in stream.files():
        pass
    return Ova(stream.ovf, stream.manifest, dict(stream.seen), tuple(stream.remarks))
