"""The registry with a real MLflow server: register, judge by record, promote, refuse, roll back, and MLflow gone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fixtures.mlflow import free_port
from tests.fixtures.tiny_model import build_tiny_model

from endcap.contracts import CHAMPION, MODEL_NAME, ModelVersion
from endcap.errors import RecordInvalid, RegistryError, ReleaseError, ServiceUnavailable
from endcap.models.digest import digest
from endcap.release import promotion
from endcap.release.records import GATE, PROMOTION, gate_record, to_tag
from endcap.release.registry import Registry
from endcap.release.signing import Keys


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def registry(mlflow_url: str) -> Registry:
    return Registry(mlflow_url)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.load(tmp_path_factory.mktemp("secrets"))


def register(registry: Registry, model: Path, dataset: str, folder: Path | None = None) -> ModelVersion:
    plots = folder / "plots" if folder else None
    if plots:
        plots.mkdir()
        (plots / "loss.png").write_bytes(b"png")
    return registry.register(
        model,
        kind="full",
        dataset_version=dataset,
        code_commit="c0de",
        code_tree="7ree",
        params_hash="9a9a",
        parent_version=None,
        metrics={"validation.ndcg_at_10": 0.25},
        curves={"train_loss": [3.0, 2.0, 1.5]},
        plots=plots,
    )


def approve(registry: Registry, keys: Keys, version: ModelVersion, by: str = "ann") -> ModelVersion:
    standing = promotion.incumbent(registry, keys)
    record = gate_record(version, passed=True, champion=standing.version if standing else None, checks={"size": True})
    registry.set_tags(version.version, {GATE: to_tag(keys.sign(record))})
    return promotion.promote(registry, keys, version.version, by)


def test_a_version_carries_its_lineage_and_the_same_model_is_one_version(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = register(registry, model, "dataset-1", tmp_path)

    assert register(registry, model, "dataset-1") == version
    assert register(registry, model, "dataset-2").version != version.version
    assert version.digest == digest(model)
    assert {
        "kind": "full",
        "dataset_version": "dataset-1",
        "code_tree": "7ree",
        "run_id": version.run_id,
    }.items() <= version.tags.items()
    with registry._connection.open("a test") as client:
        assert [point.value for point in client.get_metric_history(version.run_id, "train_loss")] == [3.0, 2.0, 1.5]
        assert [file.path for file in client.list_artifacts(version.run_id, "plots")] == ["plots/loss.png"]
        assert client.get_run(version.run_id).info.status == "FINISHED"


def test_a_download_is_the_model_again_and_damage_is_mended_or_named(registry: Registry, model: Path, tmp_path: Path) -> None:
    version = register(registry, model, "dataset-1")

    local = registry.download(version, tmp_path)
    assert (digest(local), local.name) == (version.digest, version.version)

    (local / "config.json").write_text("{}")
    assert digest(registry.download(version.version, tmp_path)) == version.digest

    registry.set_tags(version.version, {"digest": "0" * 64})
    try:
        with pytest.raises(RegistryError, match="not the one that was registered"):
            registry.download(version.version, tmp_path / "elsewhere")
        assert not list((tmp_path / "elsewhere").iterdir())
    finally:
        registry.set_tags(version.version, {"digest": version.digest})


def test_the_registered_model_loads_and_answers_in_a_process_without_endcap(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = register(registry, model, "dataset-1")
    site = next(path for path in sys.path if path.endswith("site-packages"))
    path = [folder for folder in sys.path if "/lib" in folder]
    hidden = f"import sys; sys.meta_path = [m for m in sys.meta_path if 'editable' not in repr(m)]; sys.path = {path!r}"
    program = f"""
{hidden}
import importlib.util
assert {site!r} in sys.path and importlib.util.find_spec("endcap") is None
import mlflow, pandas
mlflow.set_tracking_uri({registry.url!r})
model = mlflow.pyfunc.load_model("models:/{MODEL_NAME}/{version.version}")
shoppers = pandas.DataFrame({{"item_ids": [["item01", "item05"], []], "countries": [["France", "France"], []]}})
out = model.predict(shoppers, params={{"k": 3, "now": "2011-11-07", "surface": "email"}})
print(out["item_ids"].map(len).tolist(), [round(s, 3) > 0 for s in out["scores"][0]][:1])
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)

    assert done.stdout.strip().startswith("[3, 3]"), done.stderr[-2000:]


def test_an_unknown_version_is_named(registry: Registry) -> None:
    for wrong in ("999", "model-999", "nonsense"):
        with pytest.raises(RegistryError, match=wrong):
            registry.get(wrong)


def test_promotion_needs_a_verified_record_and_a_name_and_a_rerun_changes_nothing(
    registry: Registry, keys: Keys, model: Path, tmp_path: Path
) -> None:
    candidate = register(registry, model, "dataset-10")
    with pytest.raises(RecordInvalid, match="there is none"):
        promotion.promote(registry, keys, candidate.version, "ann")

    forged = Keys.load(tmp_path / "stranger").sign(gate_record(candidate, passed=True, champion=None, checks={}))
    registry.set_tags(candidate.version, {GATE: to_tag(forged)})
    with pytest.raises(RecordInvalid, match="not trusted"):
        promotion.promote(registry, keys, candidate.version, "ann")
    with pytest.raises(ReleaseError, match="nobody is named"):
        approve(registry, keys, candidate, by=" ")
    assert registry.champion() is None

    champion = approve(registry, keys, candidate)
    assert promotion.promote(registry, keys, candidate.version, "bob") == champion
    assert champion.tags["promoted_by"] == "ann"
    assert promotion.verified_champion(registry, keys) == champion


def test_a_candidate_judged_against_another_champion_is_refused(registry: Registry, keys: Keys, model: Path) -> None:
    approve(registry, keys, register(registry, model, "dataset-11"))
    late = register(registry, model, "dataset-12")
    registry.set_tags(late.version, {GATE: to_tag(keys.sign(gate_record(late, passed=True, champion="0", checks={})))})

    with pytest.raises(ReleaseError, match="Judge it again"):
        promotion.promote(registry, keys, late.version, "ann")


def test_an_alias_moved_by_hand_makes_no_champion(registry: Registry, keys: Keys, model: Path) -> None:
    good = approve(registry, keys, register(registry, model, "dataset-13"))
    unearned = register(registry, model, "dataset-14")
    with registry._connection.open("a test") as client:
        client.set_registered_model_alias(MODEL_NAME, CHAMPION, unearned.version)

    with pytest.raises(RecordInvalid):
        promotion.verified_champion(registry, keys)
    standing = promotion.incumbent(registry, keys)
    assert standing is not None
    assert standing.version == good.version
    assert promotion.rollback(registry, keys, "ann").version == good.version


def test_a_rejection_is_written_down_and_the_champion_stays(registry: Registry, keys: Keys, model: Path) -> None:
    champion = approve(registry, keys, register(registry, model, "dataset-15"))
    candidate = register(registry, model, "dataset-16")

    first = promotion.reject(registry, candidate.version, "bob", "too many lamps")

    assert (first.tags["rejected_by"], first.tags["rejected_because"], first.tags["status"]) == (
        "bob",
        "too many lamps",
        "rejected",
    )
    assert promotion.reject(registry, candidate.version, "carol") == first
    assert promotion.verified_champion(registry, keys) == champion
    with pytest.raises(ReleaseError, match="rollback"):
        promotion.reject(registry, champion.version, "bob")


def roll_back_to_the_end(registry: Registry, keys: Keys) -> None:
    for _ in registry.versions():
        promotion.rollback(registry, keys, "ann")


def test_rollback_goes_back_one_by_one_past_what_does_not_verify_and_ends(registry: Registry, keys: Keys, model: Path) -> None:
    one, two, three = (approve(registry, keys, register(registry, model, f"dataset-{n}")) for n in (20, 21, 22))
    registry.set_tags(two.version, {PROMOTION: json.dumps({"forged": True})})

    restored = promotion.rollback(registry, keys, "ann")
    assert restored.version == one.version
    left = registry.get(three.version)
    assert (left.tags["rolled_back_by"], left.tags["status"]) == ("ann", "rolled back")
    assert promotion.verified_champion(registry, keys) == restored

    with pytest.raises(ReleaseError, match="no earlier champion"):
        roll_back_to_the_end(registry, keys)
    assert promotion.verified_champion(registry, keys) is not None


def test_mlflow_away_is_said_within_seconds(tmp_path: Path, model: Path) -> None:
    away = Registry(f"http://127.0.0.1:{free_port()}")
    for call in (
        away.champion,
        away.versions,
        lambda: register(away, model, "dataset-1"),
        lambda: away.download("1", tmp_path),
    ):
        with pytest.raises(ServiceUnavailable, match="endcap up"):
            call()


def test_mlflow_that_takes_the_connection_but_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.release.connection.PROBE_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            Registry(f"http://127.0.0.1:{silent.getsockname()[1]}").champion()
