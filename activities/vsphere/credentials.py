"""Who logs in: the worker's own credentials. A request names a user and never carries a password."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.certificate import Endpoint
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.request import VCenter

USERNAME_VARIABLE = "VSPHERE_USERNAME"
PASSWORD_VARIABLE = "VSPHERE_PASSWORD"


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str
    password: str = field(repr=False)


class _Login(BaseModel):
    model_config = ConfigDict(extra="forbid")

    username: str | None = None
    password: SecretStr | None = None


class _CredentialsFile(_Login):
    """`username` and `password`, and under `servers` the same by server, which win for theirs."""

    servers: dict[str, _Login] = Field(default_factory=dict)


def resolve(
    vcenter: VCenter, settings: HostSettings, environment: Mapping[str, str] = os.environ
) -> Credentials:
    """The credentials for a vCenter, of the user whom the request names if it names one.

    The credentials file's entry for the server comes first, then the file's general one, then the worker's
    `VSPHERE_USERNAME` and `VSPHERE_PASSWORD`. An entry without a user name serves for whomever the request
    names. Raises `HyperctlError`: `credentials_missing`, or `credentials_unsafe` for a file that others
    may read.
    """
    candidates: list[tuple[str | None, str | None]] = []
    file = settings.vsphere_credentials_file
    if file is not None:
        content = _read(file)
        wanted = Endpoint.parse(vcenter.server)
        own = [entry for server, entry in content.servers.items() if _same(server, wanted)]
        for entry in (*own, content):
            password = entry.password.get_secret_value() if entry.password else None
            candidates.append((entry.username, password))
    candidates.append((environment.get(USERNAME_VARIABLE), environment.get(PASSWORD_VARIABLE)))
    for username, password in candidates:
        if (
            password
            and (username or vcenter.username)
            and vcenter.username in (None, username or vcenter.username)
        ):
            return Credentials(vcenter.username or username or "", password)
    whose = f" of {vcenter.username}" if vcenter.username else ""
    where = f"in {file}, or " if file else ""
    raise HyperctlError(
        ErrorCode.CREDENTIALS_MISSING,
        f"worker host {settings.host} has no credentials{whose} for {vcenter.server}",
        f"Set them {where}as {USERNAME_VARIABLE} and {PASSWORD_VARIABLE} in the environment of the worker on "
        f"{settings.host}"
        + (
            "."
            if file
            else ", or as username: and password: in a 0600 file that "
            "HYPERCTL_VSPHERE_CREDENTIALS_FILE names."
        ),
    )


def _same(server: str, wanted: Endpoint) -> bool:
    known = Endpoint.parse(server)
    return (known.host.lower(), known.port) == (wanted.host.lower(), wanted.port)


def _read(file: Path) -> _CredentialsFile:
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid not in (0, os.geteuid()):
                raise HyperctlError(
                    ErrorCode.CREDENTIALS_UNSAFE,
                    f"the credentials file {file} may be read or changed by others "
                    f"(mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid})",
                    f"It must belong to the worker's user and be closed to others: chmod 0600 {file}",
                )
            content = yaml.safe_load(opened)
    except OSError as error:
        raise HyperctlError(
            ErrorCode.CREDENTIALS_MISSING,
            f"cannot read the credentials file {file}: {error.strerror}",
            "HYPERCTL_VSPHERE_CREDENTIALS_FILE on the worker names it.",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise _malformed(file, f"it is no YAML{line}") from None  # the parser's text may quote a password
    try:
        return _CredentialsFile.model_validate(content or {})
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, item["loc"])) + ": " + item["msg"] for item in error.errors())
        raise _malformed(file, fields) from None


def _malformed(file: Path, reason: str) -> HyperctlError:
    return HyperctlError(
        ErrorCode.CREDENTIALS_MISSING,
        f"the credentials file {file} cannot be used: {reason}",
        "Expected are username: and password:, and servers: with the same by server name.",
    )
