"""``dbpilot serve``: the API and the dashboard for a database whose application is no Python program."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from sqlalchemy import Engine

from dbpilot.cli.desk import database
from dbpilot.cli.exit_code import ExitCode
from dbpilot.cli.options import HistoryUrl, Url, changed
from dbpilot.cli.render import say
from dbpilot.config import PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import ConfigError
from dbpilot.history.sql_store import place
from dbpilot.pilot import Autopilot
from dbpilot.unsupported import Unsupported

PORT: Final = 8082
GRACE_S: Final = 5
KEEP_ALIVE_S: Final = 75
"""Longer than proxies keep an idle connection: who ends it first meets no request that is on its way."""
ANSWER_S: Final = 10.0
NEEDED: Final = ("fastapi", "starlette", "uvicorn", "prometheus_client", "jinja2")


def serve(
    url: Url = None,
    history: HistoryUrl = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for any.")] = PORT,
    every: Annotated[float, typer.Option(min=1, max=60, help="Seconds between two reads of the statistics.")] = 10,
) -> None:
    """Serve the API and the dashboard for a database, from what its server counts itself: pg_stat_statements or
    performance_schema. Percentiles are those of the means between two reads. Ctrl-C ends it.

    Example: dbpilot serve --url postgresql+psycopg://shop@localhost/shop
    """
    try:
        import uvicorn

        from dbpilot.web.keys import refuse_open
        from dbpilot.web.standalone import make_application
    except ModuleNotFoundError as error:
        needed = (error.name or "").partition(".")[0]
        if needed not in NEEDED:
            raise
        raise ConfigError(f"`dbpilot serve` needs {needed}: pip install 'dbpilot[serve]'") from None
    config = _config(history)
    refuse_open(host, config.web, "--host")
    with database(None, url) as engine, _listening(host, port) as listener:
        application = make_application(Autopilot(engine, config, server_side_s=every))
        _say_where(engine, host, listener, every)
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=KEEP_ALIVE_S,
                log_level="warning",
            )
        )
        server.run(sockets=[listener])
    if not server.started:
        raise typer.Exit(ExitCode.INTERNAL)


def _config(history: str | None) -> PilotConfig:
    """What the environment says, without what is an application's own: its pool is not here."""
    config = PilotConfig.from_env()
    parts = {"pool": changed(config.pool, {"mode": "off"})}
    if history is not None:
        parts["history"] = changed(config.history, {"url": history})  # type: ignore[assignment]  # of several sections
    return config.model_copy(update=parts)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The port is ours before anything is begun.

    Raises:
        ConfigError: it is somebody else's, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        said = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ConfigError(f"cannot listen on {host} port {port}: {said}; choose another with --port") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the end of an answer waits up to 40 ms
    with listener:
        yield listener


def _say_where(engine: Engine, host: str, listener: socket.socket, every_s: float) -> None:
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{listener.getsockname()[1]} shows {place(engine.url)} (Ctrl-C ends it)")
    ask = dialect_of(engine).server_statements
    found = OwnConnections(engine).run(lambda connection: ask(connection, 1), ANSWER_S)
    if isinstance(found, Unsupported):
        say(f"no statement will be seen: {found.reason}; {found.fix}")
    else:
        say(f"the server's own statistics are read every {every_s:g} s")
