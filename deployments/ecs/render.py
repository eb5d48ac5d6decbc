r"""Write the ECS work pool's base job template and the IAM policies for one place on AWS.

    python deployments/ecs/render.py --account 123456789012 --region eu-north-1 \
        --image 123456789012.dkr.ecr.eu-north-1.amazonaws.com/evergreen:1.4.0 \
        --bucket acme-ml --prefix evergreen --vpc vpc-0a1b --subnet subnet-0a1b --security-group sg-0a1b \
        --secret EVERGREEN_STORE=arn:aws:secretsmanager:eu-north-1:123456789012:secret:evergreen-store-AbCdEf

Nothing is sent anywhere; deployments/ecs/README.md says what to do with the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from string import Template
from typing import Any

if __name__ == "__main__":  # run by its path: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deployments.ecs.place import Place

POLICIES = Path(__file__).with_name("policies")
# The worker hands these to the task itself, so a secret of that name takes its own way in.
_WORKER_SECRETS = {
    "PREFECT_API_KEY": "prefect_api_key_secret_arn",
    "PREFECT_API_AUTH_STRING": "prefect_api_auth_string_secret_arn",
}


def pool_template(place: Place) -> dict[str, Any]:  # Any: JSON
    """Return the base job template: prefect-aws's own, with this place's values as its defaults."""
    from prefect_aws.workers.ecs_worker import ECSWorker

    template = ECSWorker.get_default_base_job_template()
    properties = template["variables"]["properties"]
    for name, value in _defaults(place).items():
        if name not in properties:
            raise ValueError(f"prefect-aws no longer knows the variable {name!r}: adapt deployments/ecs")
        properties[name]["default"] = value
    task = template["job_configuration"]["task_definition"]
    task["taskRoleArn"] = "{{ task_role_arn }}"
    task["containerDefinitions"][0] |= {
        "essential": True,
        "linuxParameters": {"initProcessEnabled": True},  # children of a fit are reaped, signals arrive
        "logConfiguration": _logging(place),
        "secrets": [
            {"name": name, "valueFrom": arn}
            for name, arn in sorted(place.secrets.items())
            if name not in _WORKER_SECRETS
        ],
    }
    return dict(template)


def policies(place: Place) -> dict[str, Any]:  # Any: JSON
    """Return every policy by its file's name, filled in for this place."""
    values = {name: getattr(place, name) for name in Place.__dataclass_fields__}
    values |= {"execution_role": place.execution_role, "task_role": place.task_role}
    values |= {"image_arn": place.image_arn, "secrets": place.secret_arns}
    found = {
        path.name: _filled(json.loads(path.read_text("utf-8")), values)
        for path in sorted(POLICIES.glob("*.json"))
    }
    for policy in found.values():  # a statement about no secrets, or no image in ECR, would be invalid
        policy["Statement"] = [one for one in policy["Statement"] if one.get("Resource") not in ([], "")]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write the files and return the exit code."""
    given = _parser().parse_args(arguments)
    out = Path(given.out)
    try:
        place = _place(given)
    except ValueError as err:
        sys.stderr.write(f"{err}\n")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    for name, content in {"pool.json": pool_template(place), **policies(place)}.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        sys.stdout.write(f"{out / name}\n")
    return 0


def _defaults(place: Place) -> dict[str, Any]:  # Any: JSON
    own = {
        "image": place.image,
        "cluster": place.cluster,
        "family": place.family,
        "cpu": place.cpu,
        "memory": place.memory,
        "launch_type": "FARGATE",
        "task_role_arn": place.task_role,
        "execution_role_arn": place.execution_role,
        "vpc_id": place.vpc,
        "network_configuration": {
            "subnets": list(place.subnets),
            "securityGroups": list(place.security_groups),
            "assignPublicIp": "DISABLED",
        },
        "match_latest_revision_in_family": True,  # no new revision for a definition that did not change
        "env": {
            "EVERGREEN_ARTIFACTS": f"s3://{place.bucket}/{place.prefix}",
            "EVERGREEN_LAUNCH": "event",
            "EVERGREEN_IMAGE_DIGEST": place.image.partition("@")[2],  # empty: named by a tag
            "EVERGREEN_STATE_DIR": "/tmp/evergreen",  # noqa: S108 -- the task's own disk, gone with it
            **dict.fromkeys(("EVERGREEN_THREADS", "OMP_NUM_THREADS"), str(max(1, place.cpu // 1024))),
            "AWS_REGION": place.region,
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        },
    }
    return own | {
        variable: place.secrets[name] for name, variable in _WORKER_SECRETS.items() if name in place.secrets
    }


def _logging(place: Place) -> dict[str, Any]:  # Any: JSON
    return {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": place.log_group,
            "awslogs-region": place.region,
            "awslogs-stream-prefix": "flow",
            "mode": "non-blocking",  # a log service that is away must not stop a retraining
            "max-buffer-size": "4m",
        },
    }


def _filled(tree: Any, values: dict[str, Any]) -> Any:  # Any: JSON
    if isinstance(tree, dict):
        return {name: _filled(item, values) for name, item in tree.items()}
    if isinstance(tree, list):
        return [_filled(item, values) for item in tree]
    if isinstance(tree, str) and isinstance(values.get(tree[2:-1]), list):
        return values[tree[2:-1]]
    return Template(tree).substitute(values) if isinstance(tree, str) else tree


def _place(given: argparse.Namespace) -> Place:
    secrets = dict(pair.partition("=")[::2] for pair in given.secret)
    more = {"subnets": tuple(given.subnet), "security_groups": tuple(given.security_group)}
    kept = set(Place.__dataclass_fields__) - {"secrets", *more}
    return Place(**{name: getattr(given, name) for name in kept}, **more, secrets=secrets)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, told in {
        "account": "account number, 12 digits",
        "region": "region, e.g. eu-north-1",
        "image": "image of the flows, with a tag or digest",
        "bucket": "bucket of snapshots, reports and model files",
        "prefix": "folder in it; the task's role reaches no further",
        "vpc": "id of the VPC",
    }.items():
        parser.add_argument(f"--{name}", required=True, help=told)
    parser.add_argument("--subnet", action="append", required=True, help="private subnet; may be repeated")
    parser.add_argument("--security-group", action="append", required=True, help="may be repeated")
    parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME=ARN", help="secret that fills a variable"
    )
    defaults = Place.__dataclass_fields__
    for name, told in {
        "cluster": "ECS cluster",
        "family": "task definition family; the roles' names start with it",
        "cpu": "CPU units, 1024 to a core",
        "memory": "MiB",
        "log-group": "CloudWatch log group, which must exist",
        "queue": "SQS queue of task state changes",
    }.items():
        default = defaults[name.replace("-", "_")].default
        parser.add_argument(
            f"--{name}", default=default, type=type(default), help=f"{told} (default: {default})"
        )
    parser.add_argument(
        "--out", default=".evergreen/ecs", help="folder to write to (default: .evergreen/ecs)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
