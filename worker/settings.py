"""What one worker process is told: where Temporal is and what it may do at a time."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from hyperctl.workflows.queues import Role

WORK_ROLES = (Role.EXPORT, Role.VERIFY, Role.CONVERT, Role.IMPORT, Role.REHEARSE)


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path: {path}")
    return path


class WorkerSettings(BaseSettings):
    """From `HYPERCTL_...` environment variables; the command line wins over them."""

    model_config = SettingsConfigDict(env_prefix="HYPERCTL_", extra="ignore")

    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    drain_seconds: float = Field(default=300.0, ge=0)
    """How long a stopping worker waits for what cannot stop at once."""
    exports_at_once: int = Field(default=4, ge=1)
    verifies_at_once: int = Field(default=2, ge=1)
    conversions_at_once: int = Field(default=3, ge=1)
    imports_at_once: int = Field(default=4, ge=1)
    rehearsals_at_once: int = Field(default=2, ge=1)
    """Beside what migrations do; each boots a guest."""
    watch_dir: Annotated[Path, AfterValidator(_absolute)] | None = None
    """A folder whose OVAs, OVFs and VMDKs become migrations; a worker with the role export watches it."""
    file_stable_timeout: float = Field(default=30.0, ge=0)
    """How many seconds nothing must have been written to what was dropped."""
    cleanup_source: bool = False
    """Delete what was migrated from the watched folder, in place of putting it into `.processed`."""
    log_level: str = "INFO"

    def slots(self, role: Role) -> int:
        """How many activities of a role run at a time."""
        return {
            Role.EXPORT: self.exports_at_once,
            Role.VERIFY: self.verifies_at_once,
            Role.CONVERT: self.conversions_at_once,
            Role.IMPORT: self.imports_at_once,
            Role.REHEARSE: self.rehearsals_at_once,
            Role.SOURCE: 16,
            Role.CONTROL: 16,
        }[role]
