"""The user's configuration: defaults, expansion, and every problem at once."""

from pathlib import Path

import pytest

from hyperctl.client.config import Configuration, default_path
from hyperctl.client.errors import ConfigurationError


def _load(tmp_path: Path, text: str, **environment: str) -> Configuration:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return Configuration.load(path, environment)


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    found = Configuration.load(tmp_path / "none.yaml", {})
    assert found == Configuration()
    temporal = found.daemons.temporal
    assert (temporal.address, temporal.namespace, temporal.timeout) == ("127.0.0.1:7233", "default", 10.0)


def test_an_empty_file_is_none(tmp_path: Path) -> None:
    assert _load(tmp_path, "# nothing yet\n") == Configuration()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    text = "daemons: {temporal: {address: 'file:1', namespace: file, timeout: 3}}"
    found = _load(
        tmp_path, text, HYPERCTL_TEMPORAL_ADDRESS="env:2", HYPERCTL_TEMPORAL_NAMESPACE="env"
    ).daemons.temporal
    assert (found.address, found.namespace, found.timeout) == ("env:2", "env", 3)


def test_names_expand_from_the_environment(tmp_path: Path) -> None:
    text = "vsphere: {server: '${SITE}.example.com', username: '$${SITE}'}"
    found = _load(tmp_path, text, SITE="berlin").vsphere
    assert (found.server, found.username) == ("berlin.example.com", "${SITE}")


def test_what_expands_is_not_expanded_again(tmp_path: Path) -> None:
    assert _load(tmp_path, "vsphere: {server: '${A}'}", A="${B}").vsphere.server == "${B}"


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    text = """
vsphere: {server: '${UNSET}', usrname: x, password: hunter2}
conversion: {fix_networks: false, output_dir: relative}
ui: {log_level: loud}
deamons: {}
"""
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, text)
    problems = "\n".join(caught.value.problems)
    assert str(tmp_path / "config.yaml") in caught.value.message
    assert "vsphere.server: the environment variable UNSET is not set" in problems
    assert "vsphere.usrname: there is no such key; did you mean username?" in problems
    assert "vsphere.password: no secret belongs here" in problems
    assert "conversion.fix_networks: there is no such key; did you mean fix_network?" in problems
    assert "conversion.output_dir: must be an absolute path" in problems
    assert "ui.log_level" in problems
    assert "deamons: there is no such key; did you mean daemons?" in problems
    assert "hunter2" not in problems


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just words", "\x00"])
def test_what_is_no_configuration_is_an_error_and_no_crash(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        _load(tmp_path, text)


def test_a_bad_address_in_the_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="HYPERCTL_TEMPORAL_ADDRESS"):
        _load(tmp_path, "", HYPERCTL_TEMPORAL_ADDRESS="no-port")


def test_it_is_where_the_user_expects_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "hyper2kvm" / "config.yaml"
