"""Which code a run used: a content-addressed snapshot of the project in the bare repository `home.code`.

It works in a clone, in a changed clone and in an unpacked archive without `.git`, and touches none of them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from endcap.config import Home, load_settings, project_root
from endcap.data.git import BareRepository, GitError, run_git
from endcap.errors import ConfigError

# Whatever can change a model or a decision about one. Documentation and tests cannot.
PATHS = (
    "src",
    "dags",
    "plugins",
    "expectations",
    "dvc.yaml",
    "params.yaml",
    "pyproject.toml",
    "constraints.txt",
    ".dvc/config",
    ".dvcignore",
)
_IGNORED_FOLDERS = {"__pycache__", ".ipynb_checkpoints"}
_IGNORED_ENDINGS = (".pyc", ".egg-info", ".swp", "~")


@dataclass(frozen=True, slots=True)
class CodeVersion:
    """`tree` is git's hash of the content; `commit` is HEAD, or `snapshot-<tree>` where the files differ from HEAD."""

    commit: str
    tree: str


def snapshot(root: Path | None = None, home: Home | None = None) -> CodeVersion:
    """Store the project (default: the one this code runs from) as it is on disk now. The same files give the same tree.

    Raises:
        ConfigError: `root` is no Endcap project.
    """
    root, repository = root or project_root(), _repository(home)
    names = [str(path.relative_to(root)) for path in _files(root)]
    if "dvc.yaml" not in names:
        raise ConfigError("is not an Endcap project: it has no dvc.yaml", field="ENDCAP_PROJECT", value=str(root))
    repository.create()
    index = repository.path / f"index-{uuid.uuid4().hex}"
    try:
        environ = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(root)}
        listing = "".join(f"{name}\0" for name in names).encode()
        repository.run("update-index", "--add", "-z", "--stdin", stdin=listing, environ=environ, cwd=root)
        tree = repository.text("write-tree", environ=environ)
    finally:
        index.unlink(missing_ok=True)
    return CodeVersion(commit=_head(root) or f"snapshot-{tree[:12]}", tree=tree)


def extract(tree: str, target: Path, home: Home | None = None) -> None:
    """Write the files of a snapshot below `target`.

    Raises:
        DatasetError: there is no such snapshot.
    """
    repository = _repository(home)
    target.mkdir(parents=True, exist_ok=True)
    index = repository.path / f"index-{uuid.uuid4().hex}"
    environ = {"GIT_INDEX_FILE": str(index)}
    try:
        repository.run("read-tree", tree, environ=environ)
        work_tree = {**environ, "GIT_WORK_TREE": str(target)}
        repository.run("checkout-index", "--all", "--force", environ=work_tree, cwd=target)
    finally:
        index.unlink(missing_ok=True)


def with_file(tree: str, name: str, content: bytes, home: Home | None = None) -> str:
    """The tree of a snapshot in which one file is another, such as params.yaml with overrides."""
    return _repository(home).write_tree({name: content}, base=tree)


def read(tree: str, name: str, home: Home | None = None) -> bytes | None:
    """One file of a snapshot; None where there is none."""
    return _repository(home).read([f"{tree}:{name}"])[0]


def _repository(home: Home | None) -> BareRepository:
    return BareRepository((home or load_settings().paths).code)


def _files(root: Path) -> Iterator[Path]:
    for name in PATHS:
        path = root / name
        if path.is_file():
            yield path
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(f for f in folders if f not in _IGNORED_FOLDERS and not f.endswith(_IGNORED_ENDINGS))
            yield from (Path(folder, file) for file in sorted(files) if not file.endswith(_IGNORED_ENDINGS))


def _head(root: Path) -> str | None:
    """HEAD of the project's own clone, if none of the snapshot's files differs from it."""
    if not (root / ".git").exists():
        return None
    try:
        reading = {"GIT_OPTIONAL_LOCKS": "0"}
        present = [name for name in PATHS if (root / name).exists()]
        if run_git("status", "--porcelain", "--untracked-files=all", "--", *present, environ=reading, cwd=root).strip():
            return None
        return run_git("rev-parse", "--verify", "HEAD", environ=reading, cwd=root).decode().strip()
    except GitError:  # a clone without a commit, or broken: the snapshot's own hash names the code then
        return None
