"""Where a file lies on a datastore, and how a vCenter's web server names it. Pure.

vSphere Web Services SDK programming guide, "Managing Storage Data by Using HTTP Access": a file is
`/folder/PATH?dcPath=DATACENTER&dsName=DATASTORE`, the datacenter by its inventory path.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import quote

from hyperctl.workflows.errors import ErrorCode, HyperctlError

_PATH = re.compile(r"\[([^\]]+)\] (.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DatastorePath:
    """`[DATASTORE] PATH`, as vSphere writes it; the path is relative to the datastore's root."""

    datastore: str
    path: str

    @classmethod
    def parse(cls, text: str) -> "DatastorePath":
        """Read vSphere's own form. Raises `HyperctlError` (`image_invalid`)."""
        match = _PATH.fullmatch(text)
        if match is None or any(part in ("", ".", "..") for part in match[2].split("/")):
            raise HyperctlError(ErrorCode.IMAGE_INVALID, f"{text!r} is no path on a datastore")
        return cls(match[1], match[2])

    def beside(self, name: str) -> "DatastorePath":
        """Another file of the same folder."""
        folder, slash, _ = self.path.rpartition("/")
        return replace(self, path=folder + slash + name)

    def targets(self, datacenter_path: str) -> tuple[str, ...]:
        """What to ask the web server for; where there are two, the second when the first is not found.

        vCenter decodes the two names of the query twice, so that names with `/` or `%` in them have to be
        quoted twice, as virt-v2v does; a server that decodes once wants the second form.
        """
        names = (datacenter_path, self.datastore)
        forms = (
            "dcPath={}&dsName={}".format(*(_quoted(_quoted(name)) for name in names)),
            "dcPath={}&dsName={}".format(*(_quoted(name) for name in names)),
        )
        path = quote(self.path, safe="/")
        return tuple(dict.fromkeys(f"/folder/{path}?{form}" for form in forms))

    def __str__(self) -> str:
        return f"[{self.datastore}] {self.path}"


def _quoted(text: str) -> str:
    return quote(text, safe="")
