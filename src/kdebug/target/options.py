"""What the user may say about how a target is opened, for everything between the command line and kube/."""

from __future__ import annotations

from collections.abc import Callable

from kdebug.protocol.record import Record, dataclass, field


@dataclass(frozen=True, eq=False, repr=False)
class PodOptions(Record):
    """What the user may say about the cluster and the toolbox; empty means: by itself."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    container: str = ""
    selector: str = ""
    image: str = ""
    profile: str = "auto"
    """A rung's name, or a YAML file with a securityContext."""
    reason: str = ""
    ttl: float = 3600.0
    max_ttl: float = 8 * 3600.0
    idle: float = 900.0
    wait: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class OpenOptions(Record):
    """What the user may say about how a target is opened."""

    read_only: bool = False
    request_seconds: float = 30.0
    patience: float = 0.0
    """Where the user gave a timeout: also for a connection to the API server, which is otherwise told
    within 5 s, and for --wait, which otherwise has no end."""
    note: Callable[[str], None] = lambda line: None
    """Takes a line that the user must know, such as what was created in the pod."""
    step: Callable[[str], None] = lambda line: None
    """Takes each step while a pod is attached to, for progress and -v."""
    pod: PodOptions = field(default_factory=PodOptions)
    root_pid: int = 0
    """Files as this process of the target sees them; 0: as the target does."""
