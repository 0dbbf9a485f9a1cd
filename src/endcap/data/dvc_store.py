"""DVC as Endcap uses it: one shared cache of links, one remote, and a repository of its own for every folder.

Not here: git and version numbers (versions.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from endcap.config import Home
from endcap.data.disk import full, is_full, require_room
from endcap.errors import DatasetError, EndcapError, ServiceUnavailable

REMOTE = "storage"


class DvcStore:
    """Puts directories into the cache and the remote, and takes them out again."""

    def __init__(self, home: Home, remote_url: str) -> None:
        self._home = home
        self.remote_url = remote_url

    def configure(
        self, root: Path, name: str = "config", *, links: bool = True, git: bool = False, final: Path | None = None
    ) -> None:
        """Make `root` a DVC repository with locks and hashes of its own; cache and remote are shared.

        `links=False` checks files out as copies; `git`: root is a git clone; `final` is where `root` will be moved to.
        """
        from configobj import ConfigObj  # type: ignore[import-untyped]

        folder = root / ".dvc"
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        remote: dict[str, Any] = {"url": self.remote_url}
        if self.remote_url.startswith("s3://"):
            remote |= {"connect_timeout": 5, "read_timeout": 60}
        config = ConfigObj(encoding="utf-8", list_values=False)
        config["core"] = {
            "no_scm": not git,
            "analytics": False,
            "check_update": False,
            "remote": REMOTE,
            "site_cache_dir": str((final or root) / ".dvc" / "tmp" / "site"),
        }
        config["cache"] = {"dir": str(self._home.dvc_cache), "type": "reflink,hardlink,copy" if links else "reflink,copy"}
        config[f'remote "{REMOTE}"'] = remote
        config.filename = str(folder / name)
        config.write()

    def add(self, directory: Path) -> bytes:
        """Take `directory` into the cache; it becomes links to it. Returns the pointer file's text (`<name>.dvc`).

        Raises:
            DatasetError: the disk of the cache or of a folder remote has no room for it.
        """
        self.configure(directory.parent)
        fresh = _fresh_bytes(directory)
        doing = f"taking {directory.name} into the DVC cache"
        require_room(self._home.dvc_cache, fresh, doing)
        if "://" not in self.remote_url:
            require_room(Path(self.remote_url), fresh, "pushing to the DVC remote")
        with self._open(directory.parent, doing) as repo:
            repo.add(str(directory))
            self._check_cached(directory)
        return Path(_pointer(directory)).read_bytes()

    def _check_cached(self, directory: Path) -> None:
        """DVC only logs a file that it could not take into the cache; find out, before a version is made that lacks it."""
        folder = self._home.dvc_cache / "files" / "md5"
        digest = digest_of(Path(_pointer(directory)).read_bytes())
        listing = folder / digest[:2] / digest[2:]
        files = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else []
        lost = [one["relpath"] for one in files if not (folder / one["md5"][:2] / one["md5"][2:]).exists()]
        if lost or not listing.exists():
            raise DatasetError(
                "could not be taken into the DVC cache", field=(lost or [directory.name])[0], action="See the log."
            )

    def push(self, directory: Path) -> None:
        """Copy what was added to the remote.

        Raises:
            ServiceUnavailable: the remote does not take it.
        """
        from dvc.exceptions import DvcException

        with self._open(directory.parent, "pushing to the DVC remote") as repo:
            try:
                repo.push(_pointer(directory))
            except DvcException as error:
                raise self._away(error) from error

    def fetch(self, pointer: bytes, directory: Path, *, links: bool = True) -> None:
        """Make `directory` (absent) what the pointer file says: from the cache, else from the remote.

        Raises:
            DatasetError: neither holds it.
            ServiceUnavailable: the cache does not hold it and the remote does not answer.
        """
        from dvc.exceptions import CheckoutError, DvcException

        self.configure(directory.parent, links=links)
        Path(_pointer(directory)).write_bytes(pointer)
        with self._open(directory.parent, "reading from the DVC remote") as repo:
            try:
                repo.checkout(_pointer(directory))
                return
            except (CheckoutError, FileNotFoundError):
                pass  # not all of it is cached
            try:
                repo.pull(_pointer(directory))
            except CheckoutError as error:
                if "://" not in self.remote_url and not Path(self.remote_url).is_dir():
                    raise self._away(error) from error
                raise DatasetError(
                    "is neither in the cache nor in the remote",
                    field=digest_of(pointer),
                    action="Restore the DVC remote from its backup.",
                ) from error
            except DvcException as error:
                raise self._away(error) from error

    def forget(self, broken: set[int]) -> None:
        """Drop cache objects by inode, after somebody wrote through a link to them; the remote still has them whole."""
        for path in self._home.dvc_cache.rglob("*"):
            if path.is_file() and path.stat().st_ino in broken:
                path.unlink()

    @contextmanager
    def _open(self, root: Path, doing: str) -> Iterator[Any]:
        from dvc.cachemgr import CacheManager
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
        from dvc_data.hashfile.state import StateNoop

        with _overheard() as heard:
            try:
                with Repo(str(root)) as repo:
                    # A folder that lives for seconds needs no database of hashes, and that one retries for ever on a full disk.
                    repo.state.close()
                    repo.state = StateNoop()
                    repo.cache = CacheManager(repo)
                    yield repo
            except EndcapError as error:
                if any(map(is_full, heard)):
                    raise full(doing, error) from error
                raise
            except (
                Exception
            ) as error:  # object stores raise their own libraries' errors (botocore, azure), not to be listed here
                if is_full(error) or any(map(is_full, heard)):
                    raise full(doing, error) from error
                if isinstance(error, DvcException):
                    raise DatasetError(f"failed while {doing}: {error}", field="dvc", action="See docs/runbooks/.") from error
                raise (self._away(error) if "remote" in doing else error) from error

    def _away(self, error: Exception) -> EndcapError:
        return ServiceUnavailable(
            f"the DVC remote does not answer ({error})",
            field="ENDCAP_DVC_REMOTE_URL",
            value=self.remote_url,
            action="Nothing was changed. Bring it back and run the task again: docs/runbooks/dvc-remote-away.md.",
        )


@contextmanager
def _overheard() -> Iterator[list[BaseException]]:
    """The errors that DVC logs instead of raising them, such as a file that could not be copied."""
    heard: list[BaseException] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                heard.append(record.exc_info[1])

    ear, loggers = Ear(), [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    for logger in loggers:
        logger.addHandler(ear)
    try:
        yield heard
    finally:
        for logger in loggers:
            logger.removeHandler(ear)


def digest_of(pointer: bytes) -> str:
    """DVC's hash of the directory that a pointer file names."""
    return str(yaml.safe_load(pointer)["outs"][0]["md5"])


def _pointer(directory: Path) -> str:
    """The pointer file, which DVC is given as target: for a folder it would read the dvc.yaml of the current folder."""
    return str(directory.with_name(f"{directory.name}.dvc"))


def _fresh_bytes(directory: Path) -> int:
    """Size of the files that are no links into the cache."""
    return sum(status.st_size for path in directory.rglob("*") if path.is_file() and (status := path.stat()).st_nlink == 1)
