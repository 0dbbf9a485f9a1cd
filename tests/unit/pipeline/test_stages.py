"""The stages on a workspace of a hand-made shop: files, honesty of the split, repeatability, an incremental run."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.numpy import load_file
from tests.fixtures.tiny_encoder import build_tiny_encoder
from tests.fixtures.tiny_exposures import tiny_slates
from tests.fixtures.tiny_model import UNTIL, tiny_catalog, tiny_events

from endcap.config import Params, project_root
from endcap.contracts import dataset_event_schema, exposure_schema
from endcap.data.features import SURFACE_CODES, country_codes, interactions_from_events
from endcap.data.partitions import append_events, append_exposures, write_partitions
from endcap.errors import DatasetError, TrainingError
from endcap.models.behaviour.head import FILE, BehaviourModel
from endcap.models.digest import digest
from endcap.models.history import History
from endcap.models.model_files import load_model
from endcap.models.text.encoder import TextEncoder
from endcap.models.text.space import load_space
from endcap.pipeline import stages, text_stages


@pytest.fixture
def quick(params: Params) -> Params:
    train = params.train.model_copy(update={"dim": 16, "layers": 1, "max_length": 20, "max_epochs": 2})
    evaluate = params.evaluate.model_copy(update={"bootstrap_samples": 50})
    return params.model_copy(update={"train": train, "evaluate": evaluate})


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pretrained encoder has its own test; here a title's letters are its vector."""

    def letters(self: TextEncoder, texts: list[str], *_: object) -> tuple[np.ndarray, int]:
        counts = [[text.count(letter) for letter in "abcdefgr"] for text in texts]
        return np.array(counts, np.float32) / 4, 0

    monkeypatch.setattr(TextEncoder, "encode", letters)


def write_dataset(root: Path, until: object = UNTIL, version: str = "dataset-1") -> None:
    shutil.rmtree(root / "data" / "dataset", ignore_errors=True)
    target = root / "data" / "dataset"
    target.mkdir(parents=True)
    events = tiny_events()
    events = events[events["time"] < pd.Timestamp(until)]
    write_partitions(pa.Table.from_pandas(events, schema=dataset_event_schema(), preserve_index=False), target)
    tiny_catalog().to_parquet(target / "catalog.parquet")
    (target / "dataset.json").write_text(json.dumps({"version": version, "interval_end": pd.Timestamp(until).isoformat()}))


def shown_days(start: datetime, slates: int = 320) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(exposures, events) of 12 days, in the columns of a dataset version."""
    shown, acts = tiny_slates(slates, start=start)
    shown = shown.assign(score=0.5, propensity=1.0, policy="greedy", model_version="1", fallback=False)
    acts = acts.assign(event_id=[f"act{start:%d}{number}" for number in range(len(acts))], price=1.0, country="France")
    return shown, acts.assign(cancelled_at=pd.Series(pd.NaT, index=acts.index, dtype="datetime64[us, UTC]"))


def show(root: Path, shown: pd.DataFrame, acts: pd.DataFrame) -> None:
    """Add exposures and events to the dataset of a workspace."""
    target = root / "data" / "dataset"
    append_exposures(pa.Table.from_pandas(shown, schema=exposure_schema(), preserve_index=False), target)
    append_events(pa.Table.from_pandas(acts, schema=dataset_event_schema(), preserve_index=False), target)


def write_parent(root: Path, model: Path | None = None) -> None:
    (root / "data" / "parent").mkdir(parents=True, exist_ok=True)
    facts = {"kind": "incremental", "model_version": "1"} if model else {"kind": "full"}
    (root / "data" / "parent" / "parent.json").write_text(json.dumps(facts))
    if model:
        shutil.copytree(model, root / "data" / "parent" / "model")


def run_all(root: Path, params: Params) -> dict[str, float]:
    stages.prepare(root, params)
    text_stages.encode(root, params)
    stages.train(root, params)
    return stages.evaluate(root, params)


@pytest.mark.usefixtures("no_encoder")
def test_stages_make_a_model_that_has_not_seen_the_holdout(tmp_path: Path, quick: Params) -> None:
    write_dataset(tmp_path)
    write_parent(tmp_path)
    metrics = run_all(tmp_path, quick)
    split = json.loads((tmp_path / "work/prepared/split.json").read_text())
    learnt = pd.read_parquet(tmp_path / "work/prepared/interactions.parquet")
    assert split["holdout_start"] == (UNTIL - timedelta(days=7)).isoformat()
    assert learnt["time"].max() < pd.Timestamp(split["holdout_start"])
    model = load_model(tmp_path / "work/model")
    assert model.config["trained_until"] == split["holdout_start"]
    assert model.config["dataset_version"] == "dataset-1"
    users = set(learnt["user_id"])
    for file in (tmp_path / "work/model").iterdir():  # what is registered and served holds no shopper
        assert not any(user.encode() in file.read_bytes() for user in users), file.name
    assert metrics["ndcg_at_10"] > metrics["popularity.ndcg_at_10"]
    assert metrics["vs_popularity.ndcg_at_10.low"] <= metrics["vs_popularity.ndcg_at_10"]
    curves = pd.read_csv(tmp_path / "work/evaluation/curves.csv")
    assert curves["validation_ndcg"].between(0, 1).all()
    assert list(model.config["curve"]["validation_ndcg"]) == curves["validation_ndcg"].tolist()
    for name in ("metrics.json", "curves.json", "curves.csv", "per_user.parquet", "plots/loss.png", "plots/baselines.png"):
        assert (tmp_path / "work/evaluation" / name).stat().st_size > 0


def test_all_that_an_event_said_reaches_training(tmp_path: Path, quick: Params) -> None:
    write_dataset(tmp_path)
    target = tmp_path / "data" / "dataset"
    shutil.rmtree(target / "events")
    events = tiny_events().assign(surface=lambda e: np.where(e["item_id"] < "item10", "email", None), quantity=3.0)
    write_partitions(pa.Table.from_pandas(events, schema=dataset_event_schema(), preserve_index=False), target)
    stages.prepare(tmp_path, quick)
    learnt = pd.read_parquet(tmp_path / "work/prepared/interactions.parquet")
    heard = interactions_from_events(learnt)
    by_email = learnt["item_id"].to_numpy() < "item10"
    assert by_email.any()
    np.testing.assert_array_equal(heard.surfaces, np.where(by_email, SURFACE_CODES["email"], 0))
    np.testing.assert_array_equal(heard.countries, country_codes(learnt["country"], len(learnt)))
    assert len(set(heard.countries.tolist())) == 2
    np.testing.assert_array_equal(heard.prices, learnt["price"].to_numpy(np.float32))
    assert (heard.quantities == 3).all()


@pytest.mark.usefixtures("no_encoder")
def test_the_same_input_gives_the_same_model(tmp_path: Path, quick: Params) -> None:
    digests = []
    for name in ("one", "two"):
        write_dataset(tmp_path / name)
        write_parent(tmp_path / name)
        for stage in (stages.prepare, text_stages.encode, stages.train):
            stage(tmp_path / name, quick)
        digests.append(digest(tmp_path / name / "work" / "model"))
    assert digests[0] == digests[1]


@pytest.mark.usefixtures("no_encoder")
def test_an_update_starts_from_its_parent(tmp_path: Path, quick: Params) -> None:
    write_dataset(tmp_path, UNTIL - timedelta(days=7))
    write_parent(tmp_path)
    run_all(tmp_path, quick)
    parent = load_model(tmp_path / "work/model")
    shutil.move(tmp_path / "work", tmp_path / "first")
    write_dataset(tmp_path, UNTIL, "dataset-2")
    write_parent(tmp_path, tmp_path / "first/model")
    metrics = run_all(tmp_path, quick)
    child = load_model(tmp_path / "work/model")
    assert child.config["trained_until"] > parent.config["trained_until"]
    assert (child.config["kind"], child.config["parent_version"]) == ("incremental", "1")
    assert metrics["users"] > 0
    history = [History(["item00"], [UNTIL])]
    shutil.move(tmp_path / "work", tmp_path / "second")
    write_parent(tmp_path)
    run_all(tmp_path, quick)
    anew = load_model(tmp_path / "work/model")  # of the same days and seed
    kept = parent.model.seen.numpy()
    moved = [np.linalg.norm((one.model.ids - parent.model.ids).detach().numpy()[kept]) for one in (child, anew)]
    assert moved[0] < moved[1] / 2
    assert not np.array_equal(child.score(history, UNTIL), parent.score(history, UNTIL))


@pytest.mark.usefixtures("no_encoder")
def test_what_was_shown_teaches_a_head_that_an_update_keeps_until_there_is_more(tmp_path: Path, quick: Params) -> None:
    shown, acts = shown_days(UNTIL - timedelta(days=18))
    write_dataset(tmp_path)
    show(tmp_path, shown, acts)
    write_parent(tmp_path)
    metrics = run_all(tmp_path, quick)
    given = pd.read_parquet(tmp_path / "work/prepared/exposures.parquet")
    holdout = pd.Timestamp(json.loads((tmp_path / "work/prepared/split.json").read_text())["holdout_start"])
    assert len(given) == (shown["time"] < holdout).sum() < len(shown)
    config = json.loads((tmp_path / "work/model/config.json").read_text())
    head = BehaviourModel.load(tmp_path / "work/model")
    assert sum(config["behaviour"]["rows"].values()) == (shown["time"] <= holdout - timedelta(days=1)).sum()
    assert metrics["behaviour.click.log_loss"] == config["behaviour"]["click"]["log_loss"]
    assert metrics["behaviour.click.log_loss"] < metrics["behaviour.click.prior_log_loss"]
    assert (tmp_path / "work/evaluation/plots/reliability.png").stat().st_size > 0
    assert b"user0" not in (tmp_path / "work/model" / FILE).read_bytes()

    shutil.move(tmp_path / "work", tmp_path / "first")
    write_dataset(tmp_path, UNTIL + timedelta(days=4), "dataset-2")
    show(tmp_path, shown, acts)
    write_parent(tmp_path, tmp_path / "first/model")
    again = run_all(tmp_path, quick)
    told = json.loads((tmp_path / "work/model/config.json").read_text())["behaviour"]
    assert "shown items since" in told["kept"]
    assert told == {**config["behaviour"], "kept": told["kept"]}
    assert again["behaviour.click.ece"] == metrics["behaviour.click.ece"]
    assert (tmp_path / "work/model" / FILE).read_bytes() == (tmp_path / "first/model" / FILE).read_bytes()
    assert head.tasks["click"].by == "head"


@pytest.mark.usefixtures("no_encoder")
def test_without_exposures_or_switched_off_there_is_no_head_and_the_model_says_why(tmp_path: Path, quick: Params) -> None:
    write_dataset(tmp_path)
    write_parent(tmp_path)
    run_all(tmp_path, quick)
    told = json.loads((tmp_path / "work/model/config.json").read_text())["behaviour"]
    assert "no exposure is old enough" in told["absent"]
    show(tmp_path, *shown_days(UNTIL - timedelta(days=18)))
    off = quick.model_copy(update={"behaviour": quick.behaviour.model_copy(update={"enabled": False})})
    run_all(tmp_path, off)
    told = json.loads((tmp_path / "work/model/config.json").read_text())["behaviour"]
    assert told == {"absent": "off (params.yaml: behaviour.enabled)"}
    assert not (tmp_path / "work/model" / FILE).exists()
    assert not (tmp_path / "work/evaluation/plots/reliability.png").exists()


@pytest.mark.usefixtures("no_encoder")
def test_an_update_on_a_dataset_older_than_its_parent_is_refused(tmp_path: Path, quick: Params) -> None:
    write_dataset(tmp_path)
    write_parent(tmp_path)
    run_all(tmp_path, quick)
    shutil.move(tmp_path / "work", tmp_path / "first")
    write_dataset(tmp_path, UNTIL - timedelta(days=7), "dataset-0")
    write_parent(tmp_path, tmp_path / "first/model")
    stages.prepare(tmp_path, quick)
    text_stages.encode(tmp_path, quick)
    with pytest.raises(TrainingError, match=r"model 1, has learnt.*dataset-0 starts.*newer dataset version"):
        stages.train(tmp_path, quick)
    assert not (tmp_path / "work/model").exists()


def test_an_encoding_that_ran_out_of_time_is_no_result(tmp_path: Path, quick: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path)
    stages.prepare(tmp_path, quick)
    monkeypatch.setattr(TextEncoder, "encode", lambda self, texts, *_: (np.zeros((len(texts), 4), np.float32), 3))
    with pytest.raises(TrainingError, match=r"encode.max_seconds: time ran out with 3 of 24 texts.*cached by content"):
        text_stages.encode(tmp_path, quick, cache=tmp_path / "cache")
    assert not (tmp_path / "work/encoded").exists()


def test_what_breaks_the_contract_is_not_learnt(
    tmp_path: Path, quick: Params, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path)
    listed = tiny_catalog()
    listed[listed["item_id"] != "item00"].to_parquet(tmp_path / "data/dataset/catalog.parquet")
    with pytest.raises(DatasetError, match=r"training_features:\nEvery item has a text to encode.*item00"):
        stages.prepare(tmp_path, quick)
    assert not (tmp_path / "work/prepared").exists()
    assert "Rejected" in (tmp_path / "work/validation/training_features.html").read_text()
    suites = tmp_path / "project" / "expectations"
    suites.mkdir(parents=True)
    text = (project_root() / "expectations" / "training_features.json").read_text()
    (suites / "training_features.json").write_text(text.replace('"critical"', '"warning"'))
    monkeypatch.setenv("ENDCAP_PROJECT", str(tmp_path / "project"))
    stages.prepare(tmp_path, quick)
    assert "Every item has a text to encode" in caplog.text


def test_a_missing_dataset_is_named(tmp_path: Path, quick: Params) -> None:
    with pytest.raises(DatasetError, match=r"dataset.json: cannot be read.*endcap dataset pull"):
        stages.prepare(tmp_path, quick)


@pytest.mark.usefixtures("no_encoder")
def test_an_update_reads_texts_as_its_parent_did(tmp_path: Path, quick: Params) -> None:
    write_dataset(tmp_path, UNTIL - timedelta(days=7))
    write_parent(tmp_path)
    run_all(tmp_path, quick)
    space = load_space(tmp_path / "work/model")
    assert space
    assert space.whitening
    shutil.move(tmp_path / "work", tmp_path / "first")
    write_dataset(tmp_path, UNTIL, "dataset-2")
    grown = tiny_catalog(30)
    grown.to_parquet(tmp_path / "data/dataset/catalog.parquet")
    write_parent(tmp_path, tmp_path / "first/model")
    run_all(tmp_path, quick)
    again = load_space(tmp_path / "work/model")
    assert again
    assert again.whitening
    np.testing.assert_array_equal(again.whitening.projection, space.whitening.projection)
    (tmp_path / "data/parent/model/text_space.safetensors").unlink()  # a parent from before spaces were kept read raw vectors
    text_stages.adapt(tmp_path, quick)
    text_stages.encode(tmp_path, quick)
    raw = load_space(tmp_path / "work/encoded")
    assert raw
    assert raw.whitening is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_adapted_encoder_travels_with_its_model(tmp_path: Path, quick: Params) -> None:
    encoder = build_tiny_encoder(tmp_path / "tiny")
    lessons = {"method": "behaviour", "steps": 2, "batch_size": 4, "learning_rate": 0.01}
    changes = {
        "encode": quick.encode.model_copy(update={"model": str(encoder)}),
        "adapt": quick.adapt.model_copy(update=lessons),
    }
    adapted = quick.model_copy(update=changes)
    write_dataset(tmp_path)
    write_parent(tmp_path)
    stages.prepare(tmp_path, adapted)
    assert text_stages.adapt(tmp_path, adapted)["steps"] == 2
    assert not (tmp_path / text_stages.CHECKPOINT).exists()
    facts = text_stages.encode(tmp_path, adapted)
    assert (facts["dimensions"], facts["without_text"]) == (16, 0)
    stages.train(tmp_path, adapted)
    space = load_space(tmp_path / "work/model")
    assert space
    assert space.source == str(tmp_path / "work/model/encoder")
    unadapted, _ = TextEncoder(str(encoder)).encode(["red cup"])
    assert not np.allclose(TextEncoder(space.source).encode(["red cup"])[0], unadapted, atol=1e-3)
    shutil.move(tmp_path / "work", tmp_path / "first")
    write_parent(tmp_path, tmp_path / "first/model")
    stages.prepare(tmp_path, adapted)
    assert text_stages.adapt(tmp_path, quick)["method"] == "as its parent"
    text_stages.encode(tmp_path, quick)
    for name in ("text.safetensors", "text_space.safetensors"):
        assert (tmp_path / "work/encoded" / name).read_bytes() == (tmp_path / "first/encoded" / name).read_bytes()


def test_fields_are_weighed_by_what_shoppers_took_and_an_update_keeps_the_weights(tmp_path: Path, quick: Params) -> None:
    encode = quick.encode.model_copy(update={"model": str(build_tiny_encoder(tmp_path / "tiny")), "fields": "weighed"})
    weighed = quick.model_copy(update={"encode": encode})
    write_dataset(tmp_path)
    kinds = np.array(["red", "blue hose", "wool", "tin soldier"])
    catalog = tiny_catalog().assign(category=lambda frame: kinds[np.arange(len(frame)) % 4])  # shoppers keep to one of them
    noise = np.random.default_rng(0).choice(["cup", "mug", "lamp", "tea", "coffee", "sock", "long", "warm"], (len(catalog), 3))
    catalog.assign(title=[" ".join(row) for row in noise], brand=None).to_parquet(tmp_path / "data/dataset/catalog.parquet")
    write_parent(tmp_path)
    stages.prepare(tmp_path, weighed)
    text_stages.adapt(tmp_path, weighed)
    weights = text_stages.encode(tmp_path, weighed, tmp_path / "cache")["field_weights"]
    assert weights[2] > 3 * max(weights[0], weights[1])  # title, brand, category
    stages.train(tmp_path, weighed)
    shutil.move(tmp_path / "work", tmp_path / "first")
    write_parent(tmp_path, tmp_path / "first/model")
    stages.prepare(tmp_path, weighed)
    text_stages.adapt(tmp_path, weighed)
    text_stages.encode(tmp_path, quick)  # whatever params.yaml says by now
    space = load_space(tmp_path / "work/encoded")
    assert space
    assert list(space.field_weights) == weights
    np.testing.assert_array_equal(
        *[load_file(tmp_path / where / "encoded/text.safetensors")["text"] for where in ("first", "work")]
    )


def test_without_a_method_nothing_is_adapted(tmp_path: Path, params: Params) -> None:
    assert text_stages.adapt(tmp_path, params) == {"method": "none", "steps": 0}
    assert [path.name for path in (tmp_path / "work/adapted").iterdir()] == [text_stages.MARKER]


@pytest.mark.usefixtures("no_encoder")
def test_an_item_listed_twice_is_one_item_with_its_newest_text(tmp_path: Path, quick: Params) -> None:
    write_dataset(tmp_path)
    write_parent(tmp_path)
    listed = tiny_catalog()
    newer = listed.iloc[:1].assign(title="a newer title")
    pd.concat([listed, newer], ignore_index=True).to_parquet(tmp_path / "data/dataset/catalog.parquet")
    run_all(tmp_path, quick)
    items = pd.read_parquet(tmp_path / "work/prepared/items.parquet")
    assert items["item_id"].is_unique
    assert items.set_index("item_id").loc["item00", "title"] == "a newer title"
    assert len(load_model(tmp_path / "work/model").item_ids) == 24
