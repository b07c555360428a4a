"""The worker's settings and the table that documents them say the same."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from hyperctl.activities.settings import HostSettings
from hyperctl.worker.settings import WorkerSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
ROW = re.compile(r"^\| `HYPERCTL_([A-Z0-9_]+)` \| (.+?) \| .+ \|$", re.MULTILINE)


def shown(default: object) -> str:
    if default is PydanticUndefined:
        return "the host's name"
    if default in (None, ""):
        return "none"
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text.removesuffix('.0')}`"


def test_every_variable_is_in_the_table_with_its_default() -> None:
    fields = {**HostSettings.model_fields, **WorkerSettings.model_fields}
    assert dict(ROW.findall(DOCUMENT.read_text())) == {
        name.upper(): shown(field.default) for name, field in fields.items()
    }
