"""A process that is killed while it changes indexes, at whatever moment, leaves nothing half-built: the next one sees
to that, and a change that was to be made is there or is not."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from dbpilot.clock import SYSTEM
from dbpilot.errors import RefusedError
from dbpilot.indexes.apply import Applier, Outcome
from dbpilot.indexes.runner import Manners
from tests.contract.test_index_apply import MANY, filled, half_built, index, wanted
from tests.support import REPOSITORY

KILLS = 4
SEED = 5
DEADLINE_S = 120
WORK = """
import json, sys
import sqlalchemy as sa
from dbpilot.clock import SYSTEM
from dbpilot.indexes.apply import Applier
from tests.contract.test_index_apply import drop, present, wanted

engine = sa.create_engine(json.loads(sys.stdin.readline()), poolclass=sa.NullPool)
applier = Applier(engine, SYSTEM)
changes = [wanted(), drop(present(engine, "ix_orders_paid"), "nobody uses it")]
print("ready", flush=True)
sys.stdin.readline()
for outcome in applier.apply(changes, who="one that dies"):
    print(outcome.step, outcome.text, flush=True)
for entry in applier.entries("watching"):
    print(applier.revert(entry.id, who="one that dies", why="to begin anew").text, flush=True)
"""


def killed_after(url: sa.URL, delay_s: float) -> float | None:
    """A process changes indexes, and is killed so long after it began; how long it took if it had ended by then."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])}
    with subprocess.Popen(
        [sys.executable, "-c", WORK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(url.render_as_string(hide_password=False)) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("go\n")
        process.stdin.flush()
        began = time.monotonic()
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return None if process.wait() == -signal.SIGKILL else time.monotonic() - began


def recovered(engine: sa.Engine) -> list[Outcome]:
    """What is put right as soon as the server has ended the statement of the dead process."""
    applier = Applier(engine, SYSTEM, manners=Manners(alone_wait_s=DEADLINE_S))
    outcomes = applier.recover()
    deadline = time.monotonic() + DEADLINE_S
    while applier.recover():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return outcomes


def test_what_a_killed_process_left_is_finished_or_gone(database_url: sa.URL) -> None:
    engine, rng = filled(database_url, MANY), random.Random(SEED)
    kills, steps = 0, list[str]()
    whole_s = killed_after(database_url, DEADLINE_S)
    assert whole_s is not None
    for _ in range(KILLS):
        kills += killed_after(database_url, rng.uniform(0.0, 0.8 * whole_s)) is None
        steps += [outcome.step for outcome in recovered(engine)]
        applier = Applier(engine, SYSTEM)
        hidden = {entry.change.name for entry in applier.entries("watching") if entry.change.act == "drop"}
        left = [name for name in half_built(engine) if name not in hidden]  # one that is hidden is on trial
        assert left == []
        for entry in applier.entries("watching"):
            assert applier.revert(entry.id, who="the test", why="to begin anew").step == "reverted"
        assert half_built(engine) == []
        assert index(engine, "ix_new") is None
        assert index(engine, "ix_orders_paid") is not None
    assert kills
    assert set(steps) <= {"watching", "failed", "reverted", "kept"}


def test_a_second_process_waits_for_what_the_server_still_does(mariadb_url: sa.URL) -> None:
    """The lock goes with the connection, and that with the statement: so nobody meddles with a build that goes on."""
    engine = filled(mariadb_url)
    with engine.connect() as blocker:
        blocker.execute(sa.text("SELECT count(*) FROM orders"))
        busy = sa.text("SELECT get_lock(concat('dbpilot-indexes-', md5(database())), 0)")
        assert blocker.scalar(busy) == 1
        with pytest.raises(RefusedError, match="another process changes indexes"):
            Applier(engine, SYSTEM, manners=Manners(alone_wait_s=0.2)).apply([wanted()], who="me")
    assert Applier(engine, SYSTEM).apply([wanted()], who="me")[0].step == "watching"
