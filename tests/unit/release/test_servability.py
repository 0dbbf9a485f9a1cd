"""A package answers in a clean process by itself, and the ways in which one does not."""

from __future__ import annotations

import ast
import pickle
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
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


CLOSURE = """
import sys
sys.path = [sys.argv[1], *[path for path in sys.path if "/src" not in path]]
import endcap.models.model_files
print("\\n".join(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "endcap"))
"""


def test_what_the_carried_code_imports_travels_or_is_required(package: Path) -> None:
    code = package / "code"
    done = subprocess.run([sys.executable, "-c", CLOSURE, str(code)], capture_output=True, text=True, check=True)
    files = [Path(line) for line in done.stdout.split()]
    assert len(files) > 10
    assert all(file.is_relative_to(code) for file in files)
    trees = [ast.parse(file.read_text()) for file in [*files, package / "served_model.py"]]
    told = [node for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]  # when loaded
    names = {
        name for node in told for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    tops = {str(name).split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"endcap"}
    distributions = packages_distributions()
    required = {line.split("==")[0].lower() for line in (package / "requirements.txt").read_text().split()}
    assert {top for top in tops if not {one.lower() for one in distributions[top]} & required} == set()
    for name in ("config", "data.versions", "data.dvc_store"):  # not needed by a model, but whoever opens them finds them whole
        subprocess.run([sys.executable, "-c", CLOSURE + f"import endcap.{name}", str(code)], check=True, capture_output=True)


def test_no_training_code_travels_with_the_model(package: Path) -> None:
    carried = {path.name for path in (package / "code" / "endcap").iterdir()}

    assert "models" in carried
    assert not carried & {"training", "pipeline", "serving", "release", "cli"}
