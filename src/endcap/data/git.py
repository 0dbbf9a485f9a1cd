"""A bare git repository below the home, driven by plumbing alone: no checkout, no user identity, no user configuration.

Objects appear atomically (git writes them aside and renames); references move by compare-and-swap. Not here: what is stored.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from endcap.data.locks import locked
from endcap.errors import DatasetError

_SETTINGS = ("user.name=endcap", "user.email=endcap@localhost", "gc.auto=0", "core.autocrlf=false", "safe.directory=*")


class GitError(DatasetError):
    """git ended with an error; `problem` holds what it said."""


class BareRepository:
    """`path` is made at the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the repository unless it is there; safe when several processes do so at once."""
        if self.path.is_dir():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f".{self.path.name}-{uuid.uuid4().hex}")
        run_git("init", "--quiet", "--bare", "--initial-branch=main", str(fresh))
        run_git(f"--git-dir={fresh}", "config", "gc.auto", "0")
        run_git(f"--git-dir={fresh}", "config", "gc.pruneExpire", "never")
        try:
            fresh.rename(self.path)
        except OSError:
            shutil.rmtree(fresh)
            if not self.path.is_dir():
                raise

    def run(self, *args: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> bytes:
        """Output of one git command in this repository. Raises GitError."""
        return run_git(f"--git-dir={self.path}", *args, stdin=stdin, environ=environ, cwd=cwd)

    def text(self, *args: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None) -> str:
        return self.run(*args, stdin=stdin, environ=environ).decode().strip()

    def write_tree(self, files: Mapping[str, bytes], base: str = "") -> str:
        """Store a tree of `files` (path → content), laid over the tree `base` if given. Returns the tree's hash.

        Its index lies apart from the repository, whose lock files `claim_tag` of another process may remove at any moment.
        """
        with TemporaryDirectory() as folder:
            environ = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if base:
                self.run("read-tree", base, environ=environ)
            for name, content in files.items():
                blob = self.text("hash-object", "-w", "--stdin", stdin=content)
                self.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", environ=environ)
            return self.text("write-tree", environ=environ)

    def write_commit(self, tree: str, parents: Sequence[str], message: str) -> str:
        args = [part for parent in parents for part in ("-p", parent)]
        return self.text("commit-tree", tree, *args, stdin=message.encode())

    def claim_tag(self, tag: str, commit: str, branch: str) -> bool:
        """Create `tag` at `commit` and let `branch` follow; False when the tag exists (somebody was first).

        The tag's creation is the one moment at which this takes effect. Lock files of a killed process are removed,
        which is safe because every writer holds the repository's own lock, and that one dies with its process.
        """
        with locked(self.path / "endcap.lock"):
            for stale in [*self.path.glob("refs/*/*.lock"), *self.path.glob("*.lock")]:
                if stale.name != "endcap.lock":
                    stale.unlink(missing_ok=True)
            if self.text("tag", "--list", tag):
                return False
            self.run("update-ref", f"refs/tags/{tag}", commit, "0" * 40)
            self.run("update-ref", f"refs/heads/{branch}", commit)
            return True

    def tags(self, pattern: str) -> list[str]:
        """Tags that match, in the order of their version numbers."""
        if not self.path.is_dir():
            return []
        return self.text("tag", "--list", "--sort=version:refname", pattern).split()

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        """Contents of objects such as `dataset-1:dataset.json`, one git process for all; None where there is none."""
        if not names or not self.path.is_dir():
            return [None] * len(names)
        output = self.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
        found: list[bytes | None] = []
        position = 0
        for _ in names:
            end = output.index(b"\n", position)
            header = output[position:end]
            position = end + 1
            if header.endswith(b" missing"):
                found.append(None)
                continue
            size = int(header.rsplit(b" ", 1)[1])
            found.append(output[position : position + size])
            position += size + 1
        return found


def run_git(*args: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> bytes:
    """Run git apart from the user's configuration and from any repository that the environment names.

    Raises:
        GitError: git is not installed, or ended with an error.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull, LC_ALL="C", **(environ or {}))
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    try:
        done = subprocess.run(["git", *settings, *args], input=stdin, env=env, cwd=cwd, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise GitError("is not installed", field="git", action="Install git.") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        action = "The disk is full: free some space, then run it again." if "No space left" in said else "See docs/runbooks/."
        raise GitError(f"failed: {said}", field=f"git {args[1] if args[0].startswith('--git-dir') else args[0]}", action=action)
    return done.stdout
