"""Whose credentials are used, and which files are refused."""

import os
from pathlib import Path

import pytest

from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.credentials import Credentials, resolve
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VCenter

ENVIRONMENT = {"VSPHERE_USERNAME": "env-user", "VSPHERE_PASSWORD": "env-word"}
FILE = """
username: file-user
password: file-word
servers:
  VC1.example.com:
    username: one
    password: word-one
  vc2.example.com:8443:
    password: word-two
"""


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    file = tmp_path / "credentials.yaml"
    file.write_text(FILE)
    file.chmod(0o600)
    return HostSettings(host="kvm-01", vsphere_credentials_file=file)


@pytest.mark.parametrize(
    ("server", "username", "expected"),
    [
        ("vc1.example.com", None, Credentials("one", "word-one")),
        ("vc1.example.com:443", "one", Credentials("one", "word-one")),
        ("vc1.example.com", "file-user", Credentials("file-user", "file-word")),
        ("vc1.example.com", "env-user", Credentials("env-user", "env-word")),
        ("vc2.example.com:8443", "anybody", Credentials("anybody", "word-two")),
        ("vc2.example.com", None, Credentials("file-user", "file-word")),
        ("vc2.example.com:8443", None, Credentials("file-user", "file-word")),
        ("vc3", None, Credentials("file-user", "file-word")),
    ],
)
def test_the_most_specific_entry_of_the_right_user_is_used(
    settings: HostSettings, server: str, username: str | None, expected: Credentials
) -> None:
    assert resolve(VCenter(server=server, username=username), settings, ENVIRONMENT) == expected


def test_the_environment_serves_without_a_file() -> None:
    settings = HostSettings()
    assert resolve(VCenter(server="vc"), settings, ENVIRONMENT) == Credentials("env-user", "env-word")
    only_password = {"VSPHERE_PASSWORD": "env-word"}
    assert resolve(VCenter(server="vc", username="me"), settings, only_password) == Credentials(
        "me", "env-word"
    )


@pytest.mark.parametrize(
    ("username", "environment"),
    [
        (None, {}),
        (None, {"VSPHERE_PASSWORD": "env-word"}),
        (None, {"VSPHERE_USERNAME": "env-user"}),
        (None, {"VSPHERE_USERNAME": "env-user", "VSPHERE_PASSWORD": ""}),
        ("other", ENVIRONMENT),
    ],
)
def test_missing_credentials_say_what_to_set_and_where(
    username: str | None, environment: dict[str, str]
) -> None:
    with pytest.raises(HyperctlError) as caught:
        resolve(VCenter(server="vc", username=username), HostSettings(host="kvm-01"), environment)
    assert caught.value.code is ErrorCode.CREDENTIALS_MISSING
    for word in ("VSPHERE_USERNAME", "VSPHERE_PASSWORD", "kvm-01", "HYPERCTL_VSPHERE_CREDENTIALS_FILE"):
        assert word in caught.value.failure.hint
    assert "env-word" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_file_that_others_may_read_or_change_is_refused(settings: HostSettings, mode: int) -> None:
    file = settings.vsphere_credentials_file
    assert file is not None
    file.chmod(mode)
    with pytest.raises(HyperctlError) as caught:
        resolve(VCenter(server="vc"), settings, ENVIRONMENT)
    assert caught.value.code is ErrorCode.CREDENTIALS_UNSAFE
    assert f"chmod 0600 {file}" in caught.value.failure.hint


@pytest.mark.parametrize(
    "content",
    ["password: [secret-word", "- secret-word", "passwort: secret-word", "username: {a: secret-word}"],
)
def test_a_malformed_file_is_said_without_its_secrets(settings: HostSettings, content: str) -> None:
    file = settings.vsphere_credentials_file
    assert file is not None
    file.write_text(content)
    with pytest.raises(HyperctlError) as caught:
        resolve(VCenter(server="vc"), settings, ENVIRONMENT)
    assert caught.value.code is ErrorCode.CREDENTIALS_MISSING
    assert str(file) in str(caught.value)
    assert "secret-word" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    settings = HostSettings(vsphere_credentials_file=tmp_path / "none.yaml")
    with pytest.raises(HyperctlError, match=r"none\.yaml"):
        resolve(VCenter(server="vc"), settings, ENVIRONMENT)


def test_an_empty_file_leaves_it_to_the_environment(settings: HostSettings) -> None:
    assert settings.vsphere_credentials_file is not None
    os.truncate(settings.vsphere_credentials_file, 0)
    assert resolve(VCenter(server="vc"), settings, ENVIRONMENT).username == "env-user"
