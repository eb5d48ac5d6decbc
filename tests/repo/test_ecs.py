"""The ECS work pool and its policies: what AWS and prefect-aws accept, and nothing wider than needed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from prefect.client.schemas.objects import FlowRun
from prefect_aws import AwsCredentials
from prefect_aws.workers.ecs_worker import ECSJobConfiguration, ECSVariables, ECSWorker

from deployments.ecs.place import Place
from deployments.ecs.render import main, policies, pool_template

ROOT = Path(__file__).parents[2]
ARN = "arn:aws:secretsmanager:eu-north-1:123456789012:secret:"
PLACE = Place(
    account="123456789012",
    region="eu-north-1",
    image="123456789012.dkr.ecr.eu-north-1.amazonaws.com/ml/evergreen:1.4.0",
    bucket="acme-ml",
    prefix="evergreen",
    vpc="vpc-0a1b",
    subnets=("subnet-0a1b",),
    security_groups=("sg-0a1b",),
    secrets={"EVERGREEN_STORE": f"{ARN}store-AbCdEf", "PREFECT_API_AUTH_STRING": f"{ARN}auth-AbCdEf"},
)
WORDS = [
    *("--account", "123456789012", "--region", "eu-north-1", "--image", PLACE.image, "--bucket", "acme-ml"),
    *("--prefix", "evergreen", "--vpc", "vpc-0a1b", "--subnet", "subnet-0a1b", "--security-group", "sg-0a1b"),
    *(word for name, arn in PLACE.secrets.items() for word in ("--secret", f"{name}={arn}")),
]


def defaults(template: dict[str, Any]) -> dict[str, Any]:
    properties = template["variables"]["properties"]
    return {name: one["default"] for name, one in properties.items() if one.get("default") is not None}


def configured(template: dict[str, Any], flow_run: FlowRun) -> ECSJobConfiguration:
    made = asyncio.run(ECSJobConfiguration.from_template_and_values(template, {"env": {"MORE": "1"}}))
    made.env["PREFECT_API_AUTH_STRING"] = "admin:canary"  # as the worker's own environment would give it
    made.prepare_for_flow_run(flow_run)
    return made


@pytest.fixture
def flow_run() -> FlowRun:
    return FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), deployment_id=uuid.uuid4(), name="retrain")


@pytest.fixture
def task(flow_run: FlowRun) -> dict[str, Any]:
    """The task definition that the worker would register."""
    configuration = configured(pool_template(PLACE), flow_run)
    return ECSWorker("evergreen")._prepare_task_definition(configuration, PLACE.region, flow_run)


# The work pool.


def test_the_defaults_are_those_that_the_worker_knows() -> None:
    known = ECSVariables.model_validate(defaults(pool_template(PLACE)), strict=False)
    assert (known.image, known.cpu, known.memory, known.launch_type) == (PLACE.image, 1024, 4096, "FARGATE")
    assert known.network_configuration["assignPublicIp"] == "DISABLED"
    assert known.task_role_arn == "arn:aws:iam::123456789012:role/evergreen-task"
    assert known.env["EVERGREEN_ARTIFACTS"] == "s3://acme-ml/evergreen"


def test_secrets_arrive_from_the_secrets_manager_and_never_as_values(task: dict[str, Any]) -> None:
    container = task["containerDefinitions"][0]
    assert {one["name"]: one["valueFrom"] for one in container["secrets"]} == PLACE.secrets
    assert "canary" not in json.dumps(task)
    assert not {one["name"] for one in container.get("environment", [])} & set(PLACE.secrets)


def test_the_task_is_fargate_with_two_roles_and_logs_that_cannot_block(task: dict[str, Any]) -> None:
    container = task["containerDefinitions"][0]
    assert task["requiresCompatibilities"] == ["FARGATE"]
    assert (task["networkMode"], task["cpu"], task["memory"], task["family"]) == (
        *("awsvpc", "1024", "4096"),
        "evergreen",
    )
    assert task["executionRoleArn"] != task["taskRoleArn"]
    assert container["logConfiguration"]["logDriver"] == "awslogs"
    assert container["logConfiguration"]["options"]["mode"] == "non-blocking"
    assert container["image"] == PLACE.image


def test_aws_takes_the_task_definition_and_the_run(
    flow_run: FlowRun, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", PLACE.region)
    session = boto3.session.Session("testing", "testing", region_name=PLACE.region)
    ec2 = session.client("ec2", endpoint_url=s3_endpoint)
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName=vpc, Description="x", VpcId=vpc)["GroupId"]
    ecs = session.client("ecs", endpoint_url=s3_endpoint)
    ecs.create_cluster(clusterName="evergreen")
    place = replace(PLACE, vpc=vpc, subnets=(subnet,), security_groups=(group,))
    configuration = configured(pool_template(place), flow_run)
    configuration.aws_credentials = AwsCredentials(
        aws_access_key_id="testing",
        aws_secret_access_key="testing",  # noqa: S106
        region_name=PLACE.region,
        aws_client_parameters={"endpoint_url": s3_endpoint},
    )
    worker = ECSWorker("evergreen")
    definition = worker._prepare_task_definition(configuration, PLACE.region, flow_run)
    worker._validate_task_definition(definition, configuration)
    made = ecs.register_task_definition(**definition)["taskDefinition"]
    request = worker._prepare_task_run_request(configuration, made, made["taskDefinitionArn"], True)
    with Stubber(
        ecs
    ) as stub:  # refuses what AWS's own description of the call refuses; moto cannot run Fargate
        stub.add_response("run_task", {"tasks": [{"taskArn": "arn:started"}]})
        assert ecs.run_task(**request)["tasks"][0]["taskArn"] == "arn:started"
    assert request["cluster"] == "evergreen"
    assert request["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == [subnet]
    assert request["overrides"]["taskRoleArn"] == place.task_role
    names = {one["name"] for one in request["overrides"]["containerOverrides"][0]["environment"]}
    assert "MORE" in names
    assert not names & set(place.secrets)


# The policies.


def statements(name: str, place: Place = PLACE) -> list[dict[str, Any]]:
    return policies(place)[name]["Statement"]


def actions(name: str) -> set[str]:
    found: set[str] = set()
    for one in statements(name):
        found |= {one["Action"]} if isinstance(one["Action"], str) else set(one["Action"])
    return found


def test_no_policy_grants_by_wildcard_save_where_aws_knows_no_resource() -> None:
    everywhere = set()
    for name, policy in policies(PLACE).items():
        for one in policy["Statement"]:
            assert one["Effect"] == "Allow"
            assert "*" not in json.dumps(one["Action"]), name
            if one.get("Resource") == "*":
                everywhere |= {one["Action"]} if isinstance(one["Action"], str) else set(one["Action"])
    assert everywhere == {
        "ecr:GetAuthorizationToken",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
        "ecs:DescribeTaskDefinition",
        "ecs:RegisterTaskDefinition",
    }


def test_a_flow_reads_and_adds_below_its_prefix_and_deletes_nothing() -> None:
    assert actions("task-role.json") == {
        *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"),
    }
    listing, objects = statements("task-role.json")
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "evergreen/*"}}
    assert listing["Resource"] == "arn:aws:s3:::acme-ml"
    assert objects["Resource"] == "arn:aws:s3:::acme-ml/evergreen/*"


def test_the_worker_starts_one_family_on_one_cluster_and_passes_two_roles() -> None:
    by_id = {one["Sid"]: one for one in statements("worker-role.json")}
    passed = by_id["GiveTasksNoOtherRole"]
    assert passed["Action"] == "iam:PassRole"
    assert sorted(passed["Resource"]) == [PLACE.execution_role, PLACE.task_role]
    assert passed["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    run = by_id["RunTheOneFamilyOnTheOneCluster"]
    assert run["Resource"].endswith(":task-definition/evergreen:*")
    assert run["Condition"]["ArnEquals"]["ecs:cluster"].endswith(":cluster/evergreen")
    assert not {one for one in actions("worker-role.json") if one.startswith(("s3:", "secretsmanager:"))}


def test_the_execution_role_reads_the_named_secrets_and_one_image() -> None:
    by_id = {one["Sid"]: one for one in statements("execution-role.json")}
    assert by_id["InjectTheNamedSecrets"]["Resource"] == sorted(PLACE.secrets.values())
    assert by_id["PullTheOneImage"]["Resource"].endswith(":repository/ml/evergreen")
    without = statements("execution-role.json", replace(PLACE, secrets={}))
    assert "InjectTheNamedSecrets" not in {one["Sid"] for one in without}


def test_a_key_within_a_secret_is_for_the_task_and_the_secret_itself_for_the_policy() -> None:
    place = replace(PLACE, secrets={"EVERGREEN_STORE": f"{ARN}x-AbCdEf:url::", "A": f"{ARN}x-AbCdEf:a::"})
    by_id = {one["Sid"]: one for one in statements("execution-role.json", place)}
    assert by_id["InjectTheNamedSecrets"]["Resource"] == [f"{ARN}x-AbCdEf"]
    container = pool_template(place)["job_configuration"]["task_definition"]["containerDefinitions"][0]
    assert {one["valueFrom"] for one in container["secrets"]} == set(place.secrets.values())


@pytest.mark.parametrize(
    ("image", "arn"),
    [
        (PLACE.image, "arn:aws:ecr:eu-north-1:123456789012:repository/ml/evergreen"),
        (
            f"999999999999.dkr.ecr.us-east-1.amazonaws.com/shared/evergreen@sha256:{'0' * 64}",
            "arn:aws:ecr:us-east-1:999999999999:repository/shared/evergreen",
        ),
        ("ghcr.io/acme/evergreen:1.4.0", None),
    ],
)
def test_the_image_may_be_pulled_from_where_its_name_says(image: str, arn: str | None) -> None:
    made = statements("execution-role.json", replace(PLACE, image=image))
    assert {one["Sid"]: one for one in made}.get("PullTheOneImage", {}).get("Resource") == arn


def test_the_commands_of_the_readme_deploy_to_where_the_image_has_its_code() -> None:
    commands = (ROOT / "deployments/ecs/README.md").read_text().split("```")[1]
    assert "python deployments/sync.py --code /app " in commands
    assert "WORKDIR /app" in (ROOT / "deployments/Dockerfile").read_text()


def test_nothing_is_left_to_fill_in() -> None:
    assert "${" not in json.dumps(policies(PLACE))


def test_iam_takes_every_policy(s3_endpoint: str) -> None:
    iam = boto3.session.Session("testing", "testing", region_name="us-east-1").client(
        "iam", endpoint_url=s3_endpoint
    )
    made = policies(PLACE)
    trust = json.dumps(made.pop("trust.json"))
    for name, policy in made.items():
        role = f"{name.removesuffix('.json')}-{uuid.uuid4().hex[:6]}"
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName=role, PolicyName="only", PolicyDocument=json.dumps(policy))
        kept = iam.get_role_policy(RoleName=role, PolicyName="only")["PolicyDocument"]
        assert kept == policy
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
        broken = {**policy, "Statement": [{**policy["Statement"][0], "Effect": "Perhaps"}]}
        iam.put_role_policy(RoleName=role, PolicyName="only", PolicyDocument=json.dumps(broken))


# The command.


def test_the_command_writes_what_the_functions_give(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "deployments/ecs/render.py"), *WORDS, "--out", str(tmp_path / "out")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    written = {Path(line).name: json.loads(Path(line).read_text()) for line in done.stdout.split()}
    assert written == {"pool.json": pool_template(PLACE), **policies(PLACE)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--image", "evergreen:latest"], "image ends with :latest"),
        (["--image", "evergreen"], "image 'evergreen'"),
        (["--account", "12"], "account '12'"),
        (["--memory", "1024"], "Fargate offers 2048 to 8192"),
        (["--cpu", "1000"], "Fargate offers cpu 512"),
        (["--secret", "EVERGREEN_STORE=postgresql://me:canary@db/x"], "secret EVERGREEN_STORE needs"),
        (["--prefix", ""], "prefix ''"),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert "canary" not in error
    assert not (tmp_path / "out").exists()
