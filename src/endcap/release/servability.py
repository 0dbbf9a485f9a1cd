"""Does the registered package load and answer in a clean process: no Endcap on its path, no network?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from endcap.contracts import CheckResult
from endcap.release.package import MODEL_PATH
from endcap.release.scorecard import Gate

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECONDS = 180
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin", ".ckpt")
# Runs isolated (-I); an editable install of Endcap is hidden too, so that only the code inside the package is found.
_PROGRAM = """
import sys, socket, json
package, k = sys.argv[1], int(sys.argv[2])
own = [finder for finder in sys.meta_path if "editable" in repr(finder).lower()]
sys.meta_path = [finder for finder in sys.meta_path if finder not in own]
import importlib.machinery, importlib.util
while True:
    spec = importlib.util.find_spec("endcap")
    if spec is None:
        break
    import pathlib
    visible = str(pathlib.Path(spec.origin).parents[1])
    sys.path = [path for path in sys.path if str(pathlib.Path(path or ".").resolve()) != visible]
    sys.path_importer_cache.clear()
def refuse(*_args, **_kwargs):
    raise OSError("the model asked for the network")
import mlflow.pyfunc, pandas
socket.socket.connect = refuse
model = mlflow.pyfunc.load_model(package)
known = json.load(open(package + "/serving_input_example.json"))["dataframe_split"]["data"][0][0]
answer = model.predict(pandas.DataFrame({"item_ids": [known, []]}), params={"k": k})
import endcap
print("ANSWER " + json.dumps({"sizes": [len(set(items)) for items in answer["item_ids"]], "code": endcap.__file__}))
"""


def start(package: Path, k: int) -> subprocess.Popen[str]:
    """Start the clean process, to be asked by `answer`; meanwhile other gates are evaluated."""
    keep = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS")}
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _PROGRAM, str(package), str(k)],
        env={**keep, "MLFLOW_TRACKING_URI": "file:///nonexistent", "HF_HUB_OFFLINE": "1"},
        cwd=tempfile.gettempdir(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str], package: Path, k: int) -> Gate:
    """The gate: the process ended well and answered k distinct items (all, if there are fewer) to both, with its own code."""
    import pyarrow.parquet as pq

    try:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return _gate(False, f"no answer within {TIMEOUT_SECONDS} s")
    line = next((line for line in out.splitlines() if line.startswith("ANSWER ")), None)
    if process.returncode != 0 or line is None:
        last = (err.strip().splitlines() or ["no message"])[-1]
        return _gate(False, f"the process failed: {last[:300]}")
    said = json.loads(line.removeprefix("ANSWER "))
    if not said["code"].startswith(str(package)):
        return _gate(False, "it used code from outside the package")
    items = pq.read_metadata(package / MODEL_PATH / "items.parquet").num_rows
    least, wanted = min(said["sizes"]), min(k, items)
    return _gate(least == wanted, f"answered {least} of {wanted} distinct items to a known and to an unknown shopper")


def no_pickle(package: Path) -> Gate:
    """No file that executes code when it is loaded."""
    found = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file() and _is_pickle(path))
    observed = f"{len(found)} found: {', '.join(found[:3])}" if found else "none found"
    result = CheckResult(
        "no pickled code",
        passed=not found,
        blocking=True,
        observed=observed,
        expected="only safetensors, Parquet, JSON and source",
    )
    return Gate("Servability", result, "A pickle can run anything on the machine that opens it.")


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLES:
        return True
    with path.open("rb") as file:
        head = file.read(2)
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _gate(passed: bool, observed: str) -> Gate:
    result = CheckResult(
        "loads and answers in a clean process",
        passed=passed,
        blocking=True,
        observed=observed,
        expected="loads without Endcap or network, answers both shoppers",
    )
    return Gate("Servability", result, "Serving must not depend on the machine that trained.")
