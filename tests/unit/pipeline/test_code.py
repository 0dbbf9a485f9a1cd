"""Snapshots of the project: same files, same tree; archives and clones alike; the project itself is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.config import Settings
from endcap.data.git import run_git
from endcap.errors import ConfigError, DatasetError
from endcap.pipeline import code


def listing(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_archive_without_git_is_named_by_its_content(project: Path) -> None:
    before = listing(project)
    first = code.snapshot()
    assert first.commit == f"snapshot-{first.tree[:12]}"
    assert code.snapshot() == first
    assert listing(project) == before
    (project / "src" / "standin.py").write_text("print('other')\n")
    assert code.snapshot().tree != first.tree


def test_caches_and_documents_do_not_count(project: Path) -> None:
    first = code.snapshot()
    (project / "src" / "__pycache__").mkdir()
    (project / "src" / "__pycache__" / "standin.pyc").write_text("x")
    (project / "README.md").write_text("words")
    assert code.snapshot().tree == first.tree


def test_a_clean_clone_is_named_by_its_commit_and_a_changed_one_is_not(project: Path) -> None:
    run_git("init", "--quiet", cwd=project)
    assert code.snapshot().commit.startswith("snapshot-"), "a clone without a commit"
    run_git("add", ".", cwd=project)
    run_git("commit", "--quiet", "-m", "Begin", cwd=project)
    head = run_git("rev-parse", "HEAD", cwd=project).decode().strip()
    assert code.snapshot().commit == head
    (project / "src" / "new.py").write_text("x = 1\n")
    assert code.snapshot().commit.startswith("snapshot-")
    (project / "src" / "new.py").unlink()
    (project / "notes.txt").write_text("outside the snapshot")
    assert code.snapshot().commit == head


def test_a_snapshot_is_extracted_as_it_was(project: Path, tmp_path: Path) -> None:
    tree = code.snapshot().tree
    (project / "dvc.yaml").write_text("stages: {}\n")
    code.extract(tree, tmp_path / "out")
    assert listing(tmp_path / "out") == [".dvc/config", "dvc.yaml", "params.yaml", "src/standin.py"]
    assert "prepare" in (tmp_path / "out" / "dvc.yaml").read_text()


def test_one_file_replaced_is_another_tree(project: Path) -> None:
    tree = code.snapshot().tree
    other = code.with_file(tree, "params.yaml", b"train: {}\n")
    assert other != tree
    assert code.read(other, "params.yaml") == b"train: {}\n"
    assert code.read(other, "dvc.yaml") == code.read(tree, "dvc.yaml") != b""
    assert code.read(tree, "absent.yaml") is None


def test_it_works_where_git_may_not_write_a_configuration(
    project: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("GIT_DIR", "/proc/nowhere")
    assert len(code.snapshot().tree) == 40


def test_errors_say_what_is_wrong(tmp_path: Path, settings: Settings, project: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no dvc\.yaml"):
        code.snapshot(tmp_path / "empty")
    code.snapshot()
    with pytest.raises(DatasetError, match="read-tree"):
        code.extract("0" * 40, tmp_path / "out")
