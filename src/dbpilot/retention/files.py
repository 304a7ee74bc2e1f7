"""Files that are there whole or not at all, in a local folder or at any fsspec URL."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from dbpilot.errors import ConfigError, RetentionError

INSTALL: Final = "pip install 'dbpilot[parquet]'"


class Files(Protocol):
    """A folder; paths in it are relative, with slashes."""

    name: str
    """Where it is, without a password."""

    def paths(self, under: str) -> list[str]:
        """Every finished file in this folder and those below, sorted."""

    def read(self, path: str) -> bytes | None:
        """What the medium holds; None when there is no such file."""

    def put(self, path: str, data: Any) -> None:
        """The file consists of these bytes and survives whatever comes; until then there is what was there before."""

    def delete(self, path: str) -> None:
        """There is no such file any more, nor anything that an interrupted :meth:`put` left of it."""

    def open(self, path: str) -> Any:
        """The file as pyarrow reads it, piece by piece."""


def files_at(url: str | os.PathLike[str]) -> Files:
    """The folder that a path or a URL names; nothing is opened or made yet.

    Raises:
        ConfigError: the URL names no place.
    """
    address = os.fspath(url)
    parts = urlsplit(address)
    if not address or (parts.scheme and "://" in address and not parts.netloc + parts.path):
        raise ConfigError("an archive in files needs a folder or a URL with one: /var/archive, s3://bucket/archive")
    if "://" not in address:
        return LocalFiles(Path(address))
    if parts.scheme in ("file", "local"):
        return LocalFiles(Path(unquote(parts.path)))
    return RemoteFiles(address)


class LocalFiles:
    """A folder of this machine, or one that is mounted as such."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._known: set[Path] = set()
        """Folders whose names are on the medium."""
        self.name = str(self._root)

    def paths(self, under: str) -> list[str]:
        found = (self._root / under).rglob("[!.]*")
        with _told(self.name):
            return sorted(path.relative_to(self._root).as_posix() for path in found if path.is_file())

    def read(self, path: str) -> bytes | None:
        with _told(self.name):
            try:
                with (self._root / path).open("rb") as file:
                    _forget_cached(file.fileno())
                    return file.read()
            except FileNotFoundError:
                return None

    def put(self, path: str, data: Any) -> None:
        target = self._root / path
        with _told(self.name):
            self._make(target.parent)
            temporary = _temporary(target)
            try:
                _write(temporary, data)
                temporary.replace(target)
            except BaseException:  # killed by a signal or not: half a file must not stay
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def delete(self, path: str) -> None:
        target = self._root / path
        with _told(self.name):
            if target.parent.is_dir():
                target.unlink(missing_ok=True)
                _temporary(target).unlink(missing_ok=True)
                _sync_folder(target.parent)

    def open(self, path: str) -> Any:
        from pyarrow import OSFile

        with _told(self.name):
            return OSFile(str(self._root / path))

    def _make(self, folder: Path) -> None:
        """The folder is there, and its name on the medium, as are those of all above it that were missing."""
        if folder in self._known:
            return
        if folder != self._root and folder != folder.parent:
            self._make(folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder.parent)
        self._known.add(folder)


class RemoteFiles:
    """A store that pyarrow reaches by itself (S3, Google, Azure, HDFS), or that fsspec does.

    Object stores show a file when all of it has arrived. Others (SFTP, SMB) may leave a part of one behind.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)  # options and the name before @ may be secrets
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def paths(self, under: str) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        with _told(self.name):
            store, root = self._store
            found = store.filesystem.get_file_info(
                FileSelector(f"{root}/{under}", recursive=True, allow_not_found=True)
            )
            return sorted(info.path[len(root) + 1 :] for info in found if info.type == FileType.File)

    def read(self, path: str) -> bytes | None:
        with _told(self.name):
            try:
                with self._open(path) as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

    def put(self, path: str, data: Any) -> None:
        with _told(self.name):
            store, root = self._store
            store.put(f"{root}/{path}", data)

    def delete(self, path: str) -> None:
        with _told(self.name):
            store, root = self._store
            try:
                store.filesystem.delete_file(f"{root}/{path}")
            except FileNotFoundError:
                return

    def open(self, path: str) -> Any:
        with _told(self.name):
            return self._open(path)

    def _open(self, path: str) -> Any:
        store, root = self._store
        return store.filesystem.open_input_file(f"{root}/{path}")

    @cached_property
    def _store(self) -> tuple["_Store", str]:
        return _native(self._url) or _by_fsspec(self._url)


class _Store:
    """pyarrow's file system, and how a whole file is put into it."""

    def __init__(self, filesystem: Any, put: Callable[[str, Any], None]) -> None:
        self.filesystem = filesystem
        self.put = put


def _native(url: str) -> tuple[_Store, str] | None:
    """The store and the path in it; None if pyarrow does not know the scheme."""
    from pyarrow import ArrowInvalid
    from pyarrow.fs import FileSystem

    try:
        filesystem, root = FileSystem.from_uri(url)
    except ArrowInvalid:
        return None

    def put(path: str, data: Any) -> None:
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)

    return _Store(filesystem, put), root.rstrip("/")


def _by_fsspec(url: str) -> tuple[_Store, str]:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    scheme = urlsplit(url).scheme
    try:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:  # its own words name the package that a scheme needs
        raise ConfigError(f"an archive at {scheme}:// needs fsspec and what it says: {INSTALL}; {error}") from None
    except ValueError:
        raise ConfigError(f"an archive at {scheme}://: neither pyarrow nor fsspec knows this kind of address") from None

    def put(path: str, data: Any) -> None:
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(f"{path}.part", bytes(data))  # some write in place, and a crash would leave half a file
        filesystem.mv(f"{path}.part", path)

    return _Store(PyFileSystem(FSSpecHandler(filesystem)), put), root.rstrip("/")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What goes wrong inside is told as the archive's fault, in the system's words, which hold no rows."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RetentionError(
            f"the archive {name} failed: {reason}; nothing is deleted from the live table before its archive is safe. "
            "Mend it (space, rights, network) and run again"
        ) from error


def _temporary(target: Path) -> Path:
    """Where a file lies until it is whole; the same for the same file, so that interrupted ones do not pile up."""
    return target.with_name(f".{target.name}.part")


def _write(path: Path, data: Any) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # a full disk may be told here, and not before


def _sync_folder(folder: Path) -> None:
    """The names in this folder are on the medium."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget_cached(descriptor: int) -> None:
    """What is read next comes from the medium, where the system can be asked for that."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
