"""`millwright follow`: live streams to history, exactly once, until it is told to stop.

The one idea: a message is on this machine's disk before its broker is told so, and in history a moment later, as
part of a batch that is written down first. Killed at any moment, the next run finishes that batch with the
same rows and goes on; a broker that is away for a while is waited for. What is wrong goes to quarantine
with topic and offset, and stops nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cluster.home import Home
from cluster.report import Progress
from jobs.following.plant import Follower
from jobs.following.report import FollowReport, PlantFollow
from models.errors import InputError, MillwrightError


def run(home: Home, *, plant: str | None = None, seconds: float | None = None, progress: Progress) -> FollowReport:
    """Follow one plant, or every one that has live streams; ``seconds``: until then, else until Ctrl-C or SIGTERM.

    Raises InputError where there is nothing to follow, or where another run does it already. A plant that
    cannot go on does not stop the others; then the exit code is 1.
    """
    started = time.monotonic()
    names = [plant] if plant else [name for name in home.plants() if home.source(name).live]
    if not names or not home.source(names[0]).live:
        raise InputError(
            "No live stream to follow", expected="a [[live]] section in a source description", found="none",
            where=home.of(plant).source if plant else home.sources, do="Describe one: README.md shows how",
        )  # fmt: skip
    report = FollowReport(plants=[PlantFollow(name=name) for name in names])
    with ExitStack() as locks:
        for name in names:
            locks.enter_context(_alone(home, name))
        progress.step(f"Following {', '.join(names)}")
        asyncio.run(_all(home, report.plants, seconds, progress))
    report.exit_code = 1 if any(found.error for found in report.plants) else 0
    report.seconds = round(time.monotonic() - started, 3)
    return report.total()


async def _all(home: Home, reports: list[PlantFollow], seconds: float | None, progress: Progress) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)
    stops = [asyncio.Event() for _ in reports]
    plants = [asyncio.create_task(_one(home, own, end, progress)) for own, end in zip(reports, stops, strict=True)]
    watching = asyncio.create_task(_told(reports, progress))
    waiting = asyncio.create_task(_stopped(stop, plants))
    await asyncio.wait([waiting], timeout=seconds)
    for end in stops:
        end.set()
    await asyncio.gather(*plants)
    watching.cancel()
    waiting.cancel()


async def _stopped(stop: asyncio.Event, plants: list[asyncio.Task[None]]) -> None:
    """Until somebody says so, or no plant is left that goes on."""
    while not stop.is_set() and not all(plant.done() for plant in plants):
        await asyncio.sleep(0.05)


async def _one(home: Home, report: PlantFollow, stop: asyncio.Event, progress: Progress) -> None:
    try:
        await Follower(home, report.name, progress, stop, report).run()
    except (MillwrightError, OSError) as error:
        report.error = str(error)
        progress.note(f"{report.name}: stopped: {error}")


async def _told(reports: list[PlantFollow], progress: Progress) -> None:
    while True:
        await asyncio.sleep(2)
        progress.update(sum(report.rows_ingested for report in reports), None, "rows")


@contextmanager
def _alone(home: Home, plant: str) -> Iterator[None]:
    """Two followers of one plant would take each other's session at the broker again and again."""
    home.of(plant).make()
    with (home.of(plant).plans / "follow.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{plant} is followed already", expected="one `millwright follow` a plant", found="another one runs",
                where=home.path, do="End it first",
            ) from error  # fmt: skip
        yield
