"""The bare repository: what one process writes is never in reach of another's clearing up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.data.git import BareRepository

if TYPE_CHECKING:
    import pytest


def test_a_tag_may_be_claimed_between_any_two_steps_of_writing_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claiming removes lock files of killed processes: also those that another writer's git holds at that moment."""
    repository, other = (BareRepository(tmp_path / "cards.git") for _ in range(2))
    repository.create()
    first = repository.write_commit(repository.write_tree({"a": b"1"}), [], "first")
    run, steps = BareRepository.run, list[str]()

    def interrupted(self: BareRepository, *args: str, **more: Any) -> bytes:
        index = (more.get("environ") or {}).get("GIT_INDEX_FILE")
        if self is repository and index:
            lock = Path(f"{index}.lock")
            lock.write_bytes(b"")
            steps.append(args[0])
            other.claim_tag(f"tag-{len(steps)}", first, "main")
            assert lock.exists()
            lock.unlink()
        return run(self, *args, **more)

    monkeypatch.setattr(BareRepository, "run", interrupted)
    tree = repository.write_tree({"b": b"2", "c": b"3"}, base=f"{first}^{{tree}}")
    assert steps == ["read-tree", "update-index", "update-index", "write-tree"]
    assert repository.text("ls-tree", "--name-only", tree).split() == ["a", "b", "c"]
