"""Dataset versions: whole or absent, whoever else commits and wherever a process is killed."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.programs import missing

from endcap.config import Home, Settings
from endcap.data import disk
from endcap.data.versions import DatasetRepository
from endcap.errors import DatasetError, EndcapError, ServiceUnavailable

STEPS = ["checked out", "written", "added", "pushed", "recorded", "published"]
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def repository(settings: Settings) -> DatasetRepository:
    return DatasetRepository(settings.paths, settings.dvc_remote_url, "abc123")


def adding(name: str) -> Callable[[Path], dict[str, Any]]:
    """A writer that adds the file events/<name> and counts the files."""

    def write(folder: Path) -> dict[str, Any]:
        (folder / "events").mkdir(exist_ok=True)
        (folder / "events" / name).write_text(name)
        count = len(list((folder / "events").iterdir()))
        day = "2011-12-01T00:00:00+00:00"
        return {"interval_start": day, "interval_end": day, "events": count, "users": 1, "items": 1, "added_events": 1}

    return write


def names(repository: DatasetRepository, target: Path, version: str = "latest") -> list[str]:
    """Files of a version, each checked to be whole."""
    repository.checkout(version, target)
    found = sorted((target / "events").iterdir())
    assert all(path.read_text() == path.name for path in found)
    return [path.name for path in found]


def leftovers(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.paths.root / "scratch").iterdir() if path.name != ".lock")


def in_process(work: Callable[[], object]) -> int:
    """Exit code of `work` in a process of its own; minus the signal that killed it."""
    process = FORK.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_a_version_has_a_card_a_tag_and_its_files(repository: DatasetRepository, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="endcap ingest"):
        repository.latest()
    first = repository.commit("file-a", adding("a"))
    second = repository.commit("file-b", adding("b"))
    assert (first.version, first.parent, first.batch_id, first.code_commit) == ("dataset-1", None, "file-a", "abc123")
    assert (second.version, second.parent, second.events) == ("dataset-2", "dataset-1", 2)
    assert repository.versions() == [first, second]
    assert repository.get("1") == first
    assert repository.latest() == second
    assert names(repository, tmp_path / "old", "dataset-1") == ["a"]
    assert names(repository, tmp_path / "new") == ["a", "b"]
    assert names(repository, tmp_path / "old") == ["a", "b"], "a checkout replaces what was there"
    assert (tmp_path / "old" / "dataset.json").exists()
    assert leftovers(settings) == []


def test_a_batch_is_taken_once(repository: DatasetRepository) -> None:
    first = repository.commit("file-a", adding("a"))
    assert repository.commit("file-a", adding("other")) == first
    assert len(repository.versions()) == 1


def test_files_come_from_the_remote_when_the_cache_is_gone(
    repository: DatasetRepository, settings: Settings, tmp_path: Path
) -> None:
    repository.commit("file-a", adding("a"))
    shutil.rmtree(settings.paths.dvc_cache)
    assert names(repository, tmp_path / "out") == ["a"]
    shutil.rmtree(settings.paths.dvc_remote)
    repository.push("latest")
    shutil.rmtree(settings.paths.dvc_cache)
    assert names(repository, tmp_path / "out") == ["a"]
    for lost in settings.paths.dvc_remote.rglob("*"):
        lost.unlink() if lost.is_file() else None
    shutil.rmtree(settings.paths.dvc_cache)
    with pytest.raises(DatasetError, match="backup"):
        repository.checkout("latest", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_checkout_may_be_copies(repository: DatasetRepository, tmp_path: Path) -> None:
    repository.commit("file-a", adding("a"))
    repository.checkout("latest", tmp_path / "mine", links=False)
    (tmp_path / "mine" / "events" / "a").write_text("edited")
    assert names(repository, tmp_path / "out") == ["a"]


def test_two_kinds_of_bad_writers_change_nothing(repository: DatasetRepository, settings: Settings, tmp_path: Path) -> None:
    repository.commit("file-a", adding("a"))

    def edits_in_place(folder: Path) -> dict[str, Any]:
        (folder / "events" / "a").chmod(0o644)
        with (folder / "events" / "a").open("a") as file:
            file.write("spoiled")
        return adding("b")(folder)

    with pytest.raises(DatasetError, match=r"in place.*replace"):
        repository.commit("file-b", edits_in_place)
    assert names(repository, tmp_path / "out") == ["a"], "the broken object was fetched again"
    with pytest.raises(DatasetError, match="rows"):
        repository.commit("file-b", lambda folder: {**adding("b")(folder), "rows": 1})
    with pytest.raises(DatasetError, match="time zone"):
        repository.commit("file-b", lambda folder: {**adding("b")(folder), "interval_end": "2011-12-01T00:00:00"})
    assert [one.version for one in repository.versions()] == ["dataset-1"]
    assert leftovers(settings) == []


def test_a_kill_at_any_step_leaves_the_last_version_whole(
    repository: DatasetRepository, settings: Settings, tmp_path: Path
) -> None:
    repository.commit("file-0", adding("0"))
    for number, step in enumerate(STEPS, start=1):

        def killed(name: str, at: str = step) -> None:
            if name == at:
                os.kill(os.getpid(), signal.SIGKILL)

        before = repository.versions()
        batch, write = f"file-{number}", adding(str(number))
        assert in_process(lambda: repository.commit(batch, write, killed)) == -signal.SIGKILL  # noqa: B023
        after = repository.versions()
        assert len(after) - len(before) == (step == "published")
        assert names(repository, tmp_path / "out") == [str(n) for n in range(len(after))]
        assert repository.commit(batch, write).version == f"dataset-{number + 1}"
    assert names(repository, tmp_path / "out") == [str(number) for number in range(len(STEPS) + 1)]
    assert leftovers(settings) == []


@pytest.mark.parametrize("seconds", [0.05, 0.25, 0.6])
def test_a_kill_at_any_moment_leaves_the_last_version_whole(
    repository: DatasetRepository, settings: Settings, tmp_path: Path, seconds: float
) -> None:
    repository.commit("file-0", adding("0"))

    def killed_soon() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends a process as SIGKILL does
        repository.commit("file-1", adding("1"))

    in_process(killed_soon)
    assert names(repository, tmp_path / "out")[0] == "0"
    assert repository.commit("file-1", adding("1")).version == "dataset-2"
    assert names(repository, tmp_path / "out") == ["0", "1"]
    assert leftovers(settings) == []


def test_locks_of_a_killed_git_do_not_stay(repository: DatasetRepository, settings: Settings) -> None:
    repository.commit("file-0", adding("0"))
    refs = settings.paths.datasets / "refs"
    for stale in (refs / "tags" / "dataset-2.lock", refs / "heads" / "main.lock", settings.paths.datasets / "packed-refs.lock"):
        stale.touch()
    assert repository.commit("file-1", adding("1")).version == "dataset-2"
    assert len(repository.versions()) == 2


def test_four_at_once_all_succeed_and_none_is_lost(repository: DatasetRepository, settings: Settings, tmp_path: Path) -> None:
    def commit(name: str) -> None:
        barrier.wait()
        repository.commit(f"file-{name}", adding(name))

    barrier = FORK.Barrier(4)
    processes = [FORK.Process(target=commit, args=(name,)) for name in "abcd"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert [one.version for one in repository.versions()] == ["dataset-1", "dataset-2", "dataset-3", "dataset-4"]
    assert sorted(one.batch_id for one in repository.versions()) == ["file-a", "file-b", "file-c", "file-d"]
    assert names(repository, tmp_path / "out") == ["a", "b", "c", "d"]
    assert leftovers(settings) == []


def test_a_remote_folder_that_is_away(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mount").write_text("no folder")
    repository = DatasetRepository(settings.paths, str(tmp_path / "mount" / "remote"))
    with pytest.raises(ServiceUnavailable, match="ENDCAP_DVC_REMOTE_URL"):
        repository.commit("file-a", adding("a"))
    assert repository.versions() == []
    assert leftovers(settings) == []
    (tmp_path / "mount").unlink()
    assert repository.commit("file-a", adding("a")).version == "dataset-1"
    shutil.rmtree(settings.paths.dvc_cache)
    shutil.rmtree(tmp_path / "mount")
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        repository.checkout("latest", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_object_store_that_is_away(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if importlib.util.find_spec("dvc_s3") is None:
        missing("dvc-s3 (extra `production`) is not installed")
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    local = DatasetRepository(settings.paths, settings.dvc_remote_url)
    away = DatasetRepository(settings.paths, "s3://shop/datasets")
    local.commit("file-a", adding("a"))
    with pytest.raises(ServiceUnavailable, match="s3://shop/datasets"):
        away.commit("file-b", adding("b"))
    assert names(away, tmp_path / "out") == ["a"], "what is cached needs no remote"
    shutil.rmtree(settings.paths.dvc_cache)
    with pytest.raises(ServiceUnavailable, match="s3://shop/datasets"):
        away.checkout("latest", tmp_path / "out")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 20 MiB, outside pytest's own folder: pytest could not clear away one that a killed run left mounted."""
    place = Path(tempfile.mkdtemp(prefix="endcap-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        if not mounted:
            pytest.skip("a full disk needs the right to mount a small one")
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()


@pytest.mark.parametrize(
    ("megabytes", "margin"),
    [
        pytest.param(25, disk.MARGIN_BYTES, id="while writing"),
        pytest.param(7, disk.MARGIN_BYTES, id="foreseen"),
        pytest.param(10, -(2**30), id="while caching"),
        pytest.param(6.8, -(2**30), id="while pushing"),
    ],
)
def test_a_full_disk_changes_nothing(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: float, margin: int
) -> None:
    repository = DatasetRepository(Home(small_disk / "home"), str(small_disk / "remote"))
    repository.commit("file-a", adding("a"))
    monkeypatch.setattr(disk, "MARGIN_BYTES", margin)

    def write(folder: Path) -> dict[str, Any]:
        (folder / "events" / "big").write_bytes(os.urandom(int(megabytes * 2**20)))
        return adding("b")(folder)

    with pytest.raises((EndcapError, OSError), match=r"disk is full|No space left"):
        repository.commit("file-b", write)
    assert [one.version for one in repository.versions()] == ["dataset-1"]
    for path in [*small_disk.rglob("*.tmp"), *small_disk.glob("home/dvc-cache/files/md5/*/*")]:
        path.unlink(missing_ok=True)  # what a person would do: free some space
    assert names(repository, tmp_path / "out") == ["a"]
    assert repository.commit("file-b", adding("b")).version == "dataset-2"
