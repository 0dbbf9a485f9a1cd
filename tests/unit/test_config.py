"""params.yaml and the environment: what is known is typed, what is not is an error that helps."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from endcap.config import Params, load_params, load_settings
from endcap.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def write(tmp_path: Path, change: dict[str, object]) -> Path:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dotted, value in change.items():
        *parents, key = dotted.split(".")
        section = raw
        for parent in parents:
            section = section[parent]
        section[key] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_a_misspelt_key_is_named_with_the_nearest_right_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.learning_rat: unknown key.*Did you mean `learning_rate`"):
        load_params(write(tmp_path, {"train.learning_rat": 0.1}))


def test_a_misspelt_key_is_named_before_the_one_that_it_leaves_missing(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["train"]["dimm"] = raw["train"].pop("dim")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"train\.dimm: unknown key.*Did you mean `dim`"):
        load_params(tmp_path / "params.yaml")


def test_a_misspelt_nested_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.update\.epoch: unknown key.*`epochs`"):
        load_params(write(tmp_path, {"train.update.epoch": 3}))


def test_a_value_out_of_range_names_key_and_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gates\.confidence.*got 1\.5"):
        load_params(write(tmp_path, {"gates.confidence": 1.5}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gates.confidence", 0.5),
        ("evaluate.confidence", 1.0),
        ("gates.max_latency_ms", float("inf")),
        ("ingest.volume_ratio", [20, 0.02]),
        ("ingest.catalog_code_pattern", "("),
        ("serving.repeat_surfaces", ["hom"]),
        ("train.heads", 3),
        ("train.dropout", 1.0),
        ("evaluate.bootstrap_samples", 1),
    ],
)
def test_what_would_turn_a_check_off_is_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load_params(write(tmp_path, {key: value}))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + "recent_days: 7\n")
    with pytest.raises(ConfigError, match="`recent_days` is there twice"):
        load_params(path)


@pytest.mark.parametrize("text", ["", "- a list", "train: {", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        load_params(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_params(tmp_path / "nowhere.yaml")


def test_the_digest_follows_the_values(params: Params, tmp_path: Path) -> None:
    same = load_params(write(tmp_path, {}))
    other = load_params(write(tmp_path, {"train.seed": params.train.seed + 1}))
    assert same.digest() == params.digest() != other.digest()


def test_an_unknown_variable_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError, match=r"ENDCAP_SERVING_PROT.*Did you mean ENDCAP_SERVING_PORT"):
        load_settings({"ENDCAP_SERVING_PROT": "1"})


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(ConfigError, match="ENDCAP_AIRFLOW_PORT"):
        load_settings({"ENDCAP_AIRFLOW_PORT": port})


def test_addresses_follow_ports_and_home(tmp_path: Path) -> None:
    settings = load_settings({"ENDCAP_HOME": str(tmp_path), "ENDCAP_MLFLOW_PORT": "5999"})
    assert settings.mlflow_url == "http://127.0.0.1:5999"
    assert settings.event_log_url == f"sqlite:///{tmp_path / 'events.db'}"
    assert not any(tmp_path.iterdir())  # loading creates nothing


def test_a_file_from_before_the_behaviour_head_can_be_read(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    section = raw.pop("behaviour")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert load_params(tmp_path / "params.yaml").behaviour.model_dump() == section
    with pytest.raises(ConfigError, match=r"behaviour.max_rows \(500\) must not be below behaviour.min_rows \(1000\)"):
        load_params(write(tmp_path, {"behaviour.max_rows": 500}))


def test_a_misspelt_key_of_a_step_in_a_list_is_named(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["canary"]["steps"][1]["shar"] = 0.2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"canary\.steps\.1\.shar: unknown key.*Did you mean `share`"):
        load_params(tmp_path / "params.yaml")


def test_a_guard_of_an_unknown_metric_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"canary\.guards\.clicls.*got 'clicls'"):
        load_params(write(tmp_path, {"canary.guards.clicls": {"better": "higher", "bar": -0.1}}))


def test_a_bar_of_the_wrong_sign_names_its_guard(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"canary\.guards\.clicks: .*must be negative where higher is better"):
        load_params(write(tmp_path, {"canary.guards.clicks.bar": 0.05}))


def test_a_file_from_before_the_canary_can_be_read(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    del raw["canary"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert load_params(tmp_path / "params.yaml").canary is None


WARM = {"name": "warm", "kind": "softmax"}


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        ({"defind": []}, r"policies\.defind: unknown key.*Did you mean `defined`"),
        ({"defined": [WARM | {"temprature": 1.0}]}, r"temprature: unknown key.*Did you mean `temperature`"),
        (
            {"defined": [WARM | {"alpha": 1.0}]},
            r"policies\.defined\.0: .*policy warm: softmax has no alpha.*floor",
        ),
        ({"defined": [WARM | {"floor": 0.0}]}, r"policies\.defined\.0\.floor"),
        ({"defined": [WARM, WARM]}, "two policies are called warm"),
        ({"defined": [WARM | {"name": "greedy"}]}, "cannot be called greedy"),
        ({"defined": [WARM | {"name": "pinned"}]}, "cannot be called pinned"),
        ({"defined": [WARM | {"name": "a@b"}]}, r"policies\.defined\.0\.name"),
        ({"assigned": [{"shares": {"greedy": 0.9}}]}, r"policies\.assigned\.0: .*must sum to 1, not 0\.9"),
        ({"assigned": [{"shares": {"cold": 1.0}}]}, r"assigned\.0\.shares: cold is not defined"),
        ({"assigned": [{"surfaces": ["hom"], "shares": {"greedy": 1.0}}]}, r"policies\.assigned\.0\.surfaces"),
        ({"rewards": {}}, r"policies\.rewards"),
        ({"rewards": {"view": {"reward": 1, "hours": 1}}}, r"policies\.rewards\.view"),
        ({"uniform": 1.5}, r"policies\.uniform.*got 1\.5"),
    ],
)
def test_policies_that_cannot_be_meant_are_refused(tmp_path: Path, policies: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_params(write(tmp_path, {"policies": policies}))


def test_policies_come_greedy_and_code_from_before_them_is_read(tmp_path: Path) -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    told = load_params(ROOT / "params.yaml").policies
    assert [one.name for one in told.in_use()] == ["greedy"]
    assert not told.learns
    del raw["policies"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert load_params(tmp_path / "params.yaml").policies == told
