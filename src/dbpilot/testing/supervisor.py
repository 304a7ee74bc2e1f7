"""A server process and its folder are gone as soon as their owner is, however the owner ended.

Run by its path and with the standard library alone, so that it is there within milliseconds::

    python -I -S supervisor.py OWNER_PID FOLDER END_SIGNAL [COMMAND ...]

It returns when the command has been started, and goes on in the background: ``FOLDER/supervisor.pid`` says who it is,
``FOLDER/pid`` exists while the command runs, and ``FOLDER/log`` has what both of them said. SIGHUP starts a command
that has ended once more; SIGTERM, or the end of the owner, ends the command and removes the folder. Without a command
it guards the folder alone.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

END_TIMEOUT_S = 10
REMOVE_TIMEOUT_S = 10
REMOVE_RETRY_S = 0.05


def main(owner: int, folder: Path, end_signal: int, command: list[str]) -> None:
    """The command runs and is guarded by a process of its own, which outlives this one."""
    started, announce = os.pipe()
    guard = os.fork()
    if guard:
        os.close(announce)
        (folder / "supervisor.pid").write_text(str(guard))
        os.read(started, 1)  # ends when the guard closes its side: the command has been started, or could not be
        return
    os.close(started)
    watch(owner, folder, end_signal, command, announce)


def watch(owner: int, folder: Path, end_signal: int, command: list[str], announce: int) -> None:
    """The owner has ended or SIGTERM has come; command and folder are gone."""
    woken = wake_on(signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    server = None
    try:
        # A handle of the process and not its number, which another process may bear tomorrow. A zombie counts as ended.
        owner_ended = os.pidfd_open(owner)
        server = start(folder, command)
        os.close(announce)
        while True:
            ready, _, _ = select.select([owner_ended, woken], [], [])
            signals = os.read(woken, 64) if woken in ready else b""
            if owner_ended in ready or signal.SIGTERM in signals:
                return
            server = reaped(folder, server)
            if server is None and signal.SIGHUP in signals:
                server = start(folder, command)
    except ProcessLookupError:
        return  # the owner ended before we could look
    finally:
        end(server, end_signal)
        remove(folder)


def wake_on(*signals: signal.Signals) -> int:
    """A descriptor from which the number of each of these signals can be read once it has come."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for each in signals:
        signal.signal(each, lambda *_: None)  # unlike SIG_IGN, a handler is not handed down to the command
    return woken


def start(folder: Path, command: list[str]) -> subprocess.Popen[bytes] | None:
    """The command runs, and ``pid`` in the folder says so."""
    if not command:
        return None
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)  # noqa: S603 - the command is ours
    written = folder / "pid.new"
    written.write_text(str(server.pid))
    written.replace(folder / "pid")
    return server


def reaped(folder: Path, server: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes] | None:
    """The server while it runs; else None, and ``pid`` is gone."""
    if server is None or server.poll() is None:
        return server
    (folder / "pid").unlink(missing_ok=True)
    return None


def end(server: subprocess.Popen[bytes] | None, end_signal: int) -> None:
    """The server has ended, by force where it does not obey."""
    if server is None:
        return
    server.send_signal(end_signal)
    try:
        server.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def remove(folder: Path) -> None:
    """The folder is gone, also where a dying process wrote into it meanwhile."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(REMOVE_RETRY_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
