"""One place on AWS: the names that the work pool and the policies have to agree on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SHAPES = {
    "account": r"\d{12}",
    "region": r"[a-z]{2}(-[a-z]+)+-\d",
    "image": r"\S+(:[\w][\w.-]{0,127}|@sha256:[0-9a-f]{64})",
    "bucket": r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "prefix": r"[\w.-]+(/[\w.-]+)*",
    "vpc": r"vpc-[0-9a-f]+",
    "cluster": r"[A-Za-z0-9_-]{1,255}",
    "family": r"[A-Za-z0-9_-]{1,255}",
}
# What Fargate offers: memory in MiB for each number of CPU units.
_MEMORY = {
    512: range(1024, 4097, 1024),
    1024: range(2048, 8193, 1024),
    2048: range(4096, 16_385, 1024),
    4096: range(8192, 30_721, 1024),
    8192: range(16_384, 61_441, 4096),
    16_384: range(32_768, 122_881, 8192),
}
_SECRET = r"arn:aws:secretsmanager:[\w-]+:\d{12}:secret:\S+"  # noqa: S105 -- the shape of a name, no secret
_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/(?P<name>[^:@]+)"
)


@dataclass(frozen=True)
class Place:
    """Where tasks run, what they may touch and how large they are; checked when it is made.

    Raises:
        ValueError: naming the first part that cannot be right.
    """

    account: str
    region: str
    image: str
    bucket: str
    prefix: str
    vpc: str
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    secrets: Mapping[str, str] = field(default_factory=dict)
    """ARN of a secret in AWS Secrets Manager by the environment variable it fills."""
    cluster: str = "evergreen"
    family: str = "evergreen"
    cpu: int = 1024
    memory: int = 4096
    log_group: str = "/evergreen/flows"
    queue: str = "prefect-ecs-tasks-events"

    def __post_init__(self) -> None:
        for name, shape in _SHAPES.items():
            if not re.fullmatch(shape, getattr(self, name)):
                raise ValueError(f"{name} {getattr(self, name)!r} is not like {shape}")
        if self.image.endswith(":latest"):
            raise ValueError("image ends with :latest; name the build, or its digest, so that runs repeat")
        if not self.subnets or not self.security_groups:
            raise ValueError("at least one subnet and one security group are needed")
        for name, arn in self.secrets.items():
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name) or not re.fullmatch(_SECRET, arn):
                raise ValueError(f"secret {name} needs NAME=arn:aws:secretsmanager:…, and never a value")
        if self.memory not in _MEMORY.get(self.cpu, ()):
            offered = _MEMORY.get(self.cpu)
            hint = f"{offered[0]} to {offered[-1]}" if offered else f"cpu {', '.join(map(str, _MEMORY))}"
            raise ValueError(f"cpu {self.cpu} with memory {self.memory}: Fargate offers {hint}")

    @property
    def image_arn(self) -> str:
        """ARN of the image's repository in ECR, which may be another account's; else empty."""
        found = _ECR.match(self.image)
        return f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{found['name']}" if found else ""

    @property
    def secret_arns(self) -> list[str]:
        """ARNs of the secrets themselves: without the JSON key, stage and version that may follow."""
        return sorted({":".join(arn.split(":")[:7]) for arn in self.secrets.values()})

    @property
    def execution_role(self) -> str:
        """ARN of the role that starts a task: it pulls the image and reads its secrets."""
        return f"arn:aws:iam::{self.account}:role/{self.family}-execution"

    @property
    def task_role(self) -> str:
        """ARN of the role that the flow itself acts as."""
        return f"arn:aws:iam::{self.account}:role/{self.family}-task"
