"""Files that are either whole or not there: every file featherseg writes goes through :func:`atomic_write`.

What takes long before it writes asks :func:`check_writable` first.
"""

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from featherseg.errors import FeathersegError


def atomic_write(path: str | Path, content: bytes | str) -> Path:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file in the same folder, are flushed and fsynced, and the file is renamed over
    ``path``; the folder is fsynced after it. Whatever fails, the previous file is untouched.

    Raises:
        FeathersegError: no space is left, or the folder cannot be written.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        kept = "; the previous file is intact" if path.exists() else ""
        raise _refusal(f"{path}: could not be written", error, kept) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return path


def check_writable(path: str | Path) -> None:
    """Try whether a file can be written to the folder of ``path``, or where that is not there, in the next above it.

    Nothing stays behind, and no folder is made.

    Raises:
        FeathersegError: it cannot.
    """
    path = Path(path)
    try:
        folder = next(above for above in path.absolute().parents if above.exists())
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"tried")
            file.flush()
    except OSError as error:
        raise _refusal(f"{path}: cannot be written", error) from error


def _refusal(said: str, error: OSError, kept: str = "") -> FeathersegError:
    what, mend = error.strerror, "Choose another folder."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what, mend = "no space left on the device", "Free some space or choose another folder."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        mend = "Choose a folder you may write to."
    return FeathersegError(f"{said}: {what}{kept}. {mend}")


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
