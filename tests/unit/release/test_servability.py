"""A package answers in a clean process by itself, and the ways in which one does not."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from endcap.release import servability
from endcap.release.gates import Exam
from endcap.release.package import MODEL_PATH


@pytest.fixture
def package(exam: Exam, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exam.package, tmp_path / "package"))


def ask(package: Path, k: int = 5) -> servability.Gate:
    return servability.answer(servability.start(package, k), package, k)


def test_a_package_answers_with_the_code_it_carries(package: Path) -> None:
    assert ask(package).result.passed


def test_a_shop_with_fewer_items_than_asked_for_answers_with_all_it_has(package: Path) -> None:
    result = ask(package, k=50).result

    assert result.passed
    assert "24 of 24" in result.observed


def test_code_that_is_missing_from_the_package_is_noticed_though_endcap_is_installed(package: Path) -> None:
    shutil.rmtree(package / "code" / "endcap")

    result = ask(package).result

    assert not result.passed
    assert "endcap" in result.observed


def test_a_model_that_asks_the_network_does_not_serve(package: Path) -> None:
    served = package / "served_model.py"
    call = "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/', timeout=2)\n"
    served.write_text(served.read_text() + call)

    assert "network" in ask(package).result.observed


def test_a_package_holds_no_pickle(package: Path) -> None:
    assert servability.no_pickle(package).result.passed


@pytest.mark.parametrize("name", ["model.pkl", "weights.pt", "innocent.json"])
def test_a_pickle_is_found_whatever_its_name(package: Path, name: str) -> None:
    (package / MODEL_PATH / name).write_bytes(pickle.dumps({"weights": [1.0]}))

    result = servability.no_pickle(package).result

    assert not result.passed
    assert name in result.observed


def test_no_training_code_travels_with_the_model(package: Path) -> None:
    carried = {path.name for path in (package / "code" / "endcap").iterdir()}

    assert "models" in carried
    assert not carried & {"training", "pipeline", "serving", "release", "cli"}
