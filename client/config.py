"""The user's own settings: `~/.config/hyper2kvm/config.yaml`, `${NAME}` expanded, every problem at once.

`HYPERCTL_TEMPORAL_ADDRESS` and `HYPERCTL_TEMPORAL_NAMESPACE` win over the file.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hyperctl.client.errors import ConfigurationError
from hyperctl.workflows.request import AbsolutePath, Name

ADDRESS_VARIABLE = "HYPERCTL_TEMPORAL_ADDRESS"
NAMESPACE_VARIABLE = "HYPERCTL_TEMPORAL_NAMESPACE"
DEFAULT_ADDRESS = "127.0.0.1:7233"
DEFAULT_NAMESPACE = "default"

_REFERENCE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRETS = frozenset({"password", "passwd", "token", "secret"})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Temporal(_Section):
    """Where Temporal is."""

    address: str = Field(default=DEFAULT_ADDRESS, pattern=r"^\S+:\d{1,5}$")
    """`HOST:PORT`."""
    namespace: Name = DEFAULT_NAMESPACE
    timeout: float = Field(default=10.0, gt=0, le=600)
    """Seconds that a call may take before the server counts as not reachable."""


class Daemons(_Section):
    temporal: Temporal = Temporal()


class Vsphere(_Section):
    """Defaults for `--vcenter` and its companions. Passwords are the worker's, never in this file."""

    server: Name | None = None
    username: Name | None = None
    datacenter: Name | None = None
    certificate_sha256: str | None = None


class Conversion(_Section):
    """Defaults for what is changed in a guest and where its images go."""

    output_dir: AbsolutePath | None = None
    fix_virtio: bool = True
    fix_grub: bool = True
    fix_network: bool = True
    fix_fstab: bool = True
    fix_tools: bool = True
    fix_agent: bool = True


class Notifications(_Section):
    email: str | None = None
    slack_webhook: str | None = None


class Ui(_Section):
    """How the console looks."""

    show_progress: bool = True
    """False: plain lines in place of live bars, on a terminal too."""
    color: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "warning"


class Configuration(_Section):
    """All of the file."""

    daemons: Daemons = Daemons()
    vsphere: Vsphere = Vsphere()
    conversion: Conversion = Conversion()
    notifications: Notifications = Notifications()
    ui: Ui = Ui()

    @classmethod
    def load(cls, path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the file, if there is one; raises `ConfigurationError` with every problem in it."""
        source = path or default_path()
        document = _read(source)
        problems: list[str] = []
        expanded = _expand(document, "", environment, problems)
        temporal = {
            key: environment[name]
            for key, name in (("address", ADDRESS_VARIABLE), ("namespace", NAMESPACE_VARIABLE))
            if environment.get(name)
        }
        try:
            configuration = cls.model_validate(expanded)
            if temporal and not problems:
                settings = configuration.daemons.temporal.model_dump() | temporal
                given = Temporal.model_validate(settings)
                daemons = configuration.daemons.model_copy(update={"temporal": given})
                configuration = configuration.model_copy(update={"daemons": daemons})
        except ValidationError as error:
            if error.title == Temporal.__name__:
                source = Path(ADDRESS_VARIABLE)
            problems += _explain(error)
        if problems:
            raise ConfigurationError(str(source), problems)
        return configuration


def default_path() -> Path:
    """`$XDG_CONFIG_HOME/hyper2kvm/config.yaml`."""
    return platformdirs.user_config_path("hyper2kvm") / "config.yaml"


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), [f"it cannot be read: {error}"]) from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or "it is no YAML"
        raise ConfigurationError(str(path), [f"{where}{reason}"]) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(str(path), ["it must be a mapping of sections"])
    return document


def _expand(value: object, key: str, environment: Mapping[str, str], problems: list[str]) -> object:
    """`${NAME}` in every text replaced; `$${NAME}` stands for the characters themselves."""
    if isinstance(value, dict):
        return {
            name: _expand(item, f"{key}.{name}" if key else str(name), environment, problems)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_expand(item, f"{key}[{index}]", environment, problems) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _REFERENCE.findall(value):
        if name not in environment:
            problems.append(f"{key}: the environment variable {name} is not set")
    return _REFERENCE.sub(lambda found: environment.get(found[1], found[0]), value).replace("$${", "${")


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_input=False):
        location = [str(part) for part in problem["loc"]]
        key = ".".join(location)
        if problem["type"] != "extra_forbidden":
            yield f"{key}: {problem['msg'].removeprefix('Value error, ')}"
        elif location[-1] in _SECRETS:
            yield f"{key}: no secret belongs here; the worker has the vCenter's password (VSPHERE_PASSWORD)"
        else:
            yield f"{key}: there is no such key{_suggestion(location)}"


def _suggestion(location: list[str]) -> str:
    section: type[BaseModel] = Configuration
    for name in location[:-1]:
        annotation = section.model_fields[name].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        section = annotation
    known = sorted(section.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
