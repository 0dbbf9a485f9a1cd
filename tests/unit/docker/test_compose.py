"""docker/ cannot be run here, so its structure is held to rules: pins, health, secrets from the environment, known commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[3] / "docker"
TEXT = (DOCKER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ALLOWED = {  # of the compose specification, what this file uses
    "image", "build", "restart", "init", "security_opt", "cap_drop", "volumes", "environment", "depends_on",
    "command", "ports", "healthcheck", "stop_grace_period",
}  # fmt: skip
ONE_SHOT = {"airflow-database"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_healthy_and_known(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= ALLOWED
    repository, _, tag = service["image"].partition(":")
    assert repository
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(-\w+)?", tag), "a version, never latest"
    if name in ONE_SHOT:
        assert service["restart"] == "no"
    else:
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert {"interval", "timeout", "retries"} <= set(service["healthcheck"])
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_services_wait_for_services_that_exist_and_can_be_waited_for() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}
            assert other in SERVICES


def test_volumes_are_declared() -> None:
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {volume for volume in named if not volume.startswith(".")} == set(COMPOSE["volumes"])


def test_every_secret_comes_from_the_environment_and_none_is_optional() -> None:
    for match in re.findall(r"\$\{[^}]*\}", TEXT):
        assert re.fullmatch(r"\$\{[A-Z_]+:\?\}", match), match
    for name, value in re.findall(r"(\w*(?:PASSWORD|SECRET|KEY)\w*): +(\S+)", TEXT.replace("ENDCAP_API_KEYS: required", "")):
        assert value.startswith(("${", '"${')), f"{name} is written down"


def test_the_example_names_every_variable_and_holds_no_value_that_is_secret() -> None:
    lines = [line for line in (DOCKER / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    example = dict(line.split("=", 1) for line in lines)
    assert set(example) == set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert {name for name, value in example.items() if value} == {"AIRFLOW_PUBLIC_URL"}


def test_endcap_settings_are_known() -> None:
    from endcap.config import load_settings

    for service in SERVICES.values():
        own = {key: "http://x" for key in service.get("environment", {}) if key.startswith("ENDCAP_")}
        load_settings(own | ({"ENDCAP_API_KEYS": "required"} if "ENDCAP_API_KEYS" in own else {}))  # an unknown one raises


def test_the_service_is_never_open() -> None:
    assert SERVICES["serving"]["environment"]["ENDCAP_API_KEYS"] == "required"
    assert "@redis:6379/1" in SERVICES["serving"]["environment"]["ENDCAP_REDIS_URL"]


def test_airflow_options_exist() -> None:
    text = Path(__import__("airflow").__file__).parent.joinpath("config_templates", "config.yml").read_text()
    known = {(section, option) for section, body in yaml.safe_load(text).items() for option in body["options"]}
    used = {key for service in SERVICES.values() for key in service.get("environment", {}) if key.startswith("AIRFLOW__")}
    core = {tuple(key.lower().split("__")[1:]) for key in used if not key.startswith("AIRFLOW__CELERY")}
    assert core <= known
    assert used - {key for key in used if not key.startswith("AIRFLOW__CELERY")} == {
        "AIRFLOW__CELERY__BROKER_URL",
        "AIRFLOW__CELERY__RESULT_BACKEND",
    }


def test_the_image_is_built_in_stages_and_does_not_run_as_root() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base) for base in bases)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users
    assert users[-1].split(":")[0] not in {"0", "root"}
    assert any("--constraint constraints.txt" in line for line in lines)
