"""Manifests in all spellings, and bad ones."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.source.manifest import DigestAlgorithm, read_manifest
from hyperctl.workflows.errors import ErrorCode, PreflightError

SHA1, SHA256, SHA512 = (hashlib.new(name, b"x").hexdigest() for name in ("sha1", "sha256", "sha512"))


def test_every_spelling() -> None:
    text = (
        f"SHA256(guest.ovf)= {SHA256}\r\n"
        f"SHA256 (guest-1.vmdk) = {SHA256.upper()}\n"
        f"SHA1(a (copy).vmdk)={SHA1}\n\n"
        f"sha512(b.vmdk) =  {SHA512}  \n"
        f"SHA-256(c.vmdk)= {SHA256}"
    )
    manifest = read_manifest(text.encode(), "guest.mf")
    assert {name: str(digest) for name, digest in manifest.digests.items()} == {
        "guest.ovf": f"sha256:{SHA256}",
        "guest-1.vmdk": f"sha256:{SHA256}",
        "a (copy).vmdk": f"sha1:{SHA1}",
        "b.vmdk": f"sha512:{SHA512}",
        "c.vmdk": f"sha256:{SHA256}",
    }
    assert manifest.algorithms == set(DigestAlgorithm)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (f"MD5(a)= {SHA1}", ErrorCode.VM_UNSUPPORTED, "MD5"),
        (f"SHA256(a)= {SHA1}", ErrorCode.SOURCE_INVALID, "40 digits and not 64"),
        (f"SHA1(../a)= {SHA1}", ErrorCode.SOURCE_UNSAFE, "out of its folder"),
        (f"SHA1(/a)= {SHA1}", ErrorCode.SOURCE_UNSAFE, "absolute"),
        ("SHA1(a)= xyz", ErrorCode.SOURCE_INVALID, "line 2"),
        ("hello", ErrorCode.SOURCE_INVALID, "line 2"),
        (f"SHA1(guest.ovf)= {SHA1[::-1]}", ErrorCode.SOURCE_INVALID, "another digest"),
    ],
)
def test_what_is_wrong_is_named(line: str, code: ErrorCode, words: str) -> None:
    with pytest.raises(PreflightError) as caught:
        read_manifest(f"SHA1(guest.ovf)= {SHA1}\n{line}\n".encode(), "guest.mf")
    assert caught.value.code is code
    assert words in str(caught.value)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(PreflightError) as caught:
        read_manifest(b"one\ntwo\nthree\n", "guest.mf")
    assert len(caught.value.failures) == 3


@given(st.binary(max_size=200))
def test_junk_is_refused_or_says_nothing(junk: bytes) -> None:
    try:
        manifest = read_manifest(junk, "guest.mf")
    except PreflightError:
        return
    assert all(digest.algorithm.hex_length == len(digest.hexadecimal) for digest in manifest.digests.values())
