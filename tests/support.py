"""A real Finstage: the program as a user starts it, on a database and a folder of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

REPOSITORY = Path(__file__).parents[1]
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30


def part(name: str) -> pytest.MarkDecorator:
    """Marks what was promised and is built by a later part; it must fail until then."""
    return pytest.mark.xfail(strict=True, reason=f"part to come: {name}")


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Finstage:
    """A running server."""

    url: str
    environment: Mapping[str, str]

    def get(self, path: str) -> Answer:
        return self._ask(Request(self.url + path))

    def post(self, path: str) -> Answer:
        return self._ask(Request(self.url + path, method="POST"))

    def _ask(self, request: Request) -> Answer:
        try:
            with urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers.get_content_type(), answer.read().decode())
        except HTTPError as error:
            with error:
                return Answer(error.code, error.headers.get_content_type(), error.read().decode())


def environment(var: Path, **settings: str) -> dict[str, str]:
    """The surroundings of a program that knows no other database and no other folder than those given."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_URL", "FINSTAGE_", "DBPILOT_"))}
    return {**inherited, "FINSTAGE_VAR": str(var), "PYTHONUNBUFFERED": "1", **settings}


def run_cli(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """``finstage ARGUMENTS``, to its end."""
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)


def run_python(code: str, env: Mapping[str, str]) -> str:
    """What this program prints; fails with its error output when it does not end well."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(env: Mapping[str, str], log: Path, workers: int = 1) -> Iterator[Finstage]:
    """``finstage serve`` until the block ends; then it is interrupted as by Ctrl-C and must end cleanly.

    Several workers are uvicorn's own, on tables that are there already.
    """
    port = _free_port()
    env = {**env, "FINSTAGE_PORT": str(port)}
    command = [sys.executable, "-m", "app.cli", "serve"]
    if workers > 1:
        options = ["--factory", "--workers", str(workers), "--port", str(port)]
        command = [sys.executable, "-m", "uvicorn", "app.main:create_app", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Finstage(f"http://127.0.0.1:{port}", env)
        _wait_until_it_answers(server, process, log)
        yield server
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_TIMEOUT_S) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(server: Finstage, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended: {log.read_text()}"
        try:
            if server.get("/healthz").status == 200:
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server did not answer in {START_TIMEOUT_S} s: {log.read_text()}")
