"""How the pipeline is run: with all cores of this machine unless Beam's own options say otherwise, and without Beam's chatter.

Beam's ``DirectRunner`` first looks for a newer runner on the network. Here it means what it always meant: the runner that
is part of the Python SDK, with one worker per core. A worker does little but wait for the process that reads its items
(`pipelines.isolation`), so a few of them are threads of this process; many are processes (`pipelines.beam_worker`). Starting
two such processes takes 3 s of processor time and 350 MiB.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.corpus import Corpus
from manifests.errors import LongreelError, UsageError
from manifests.recipe import Recipe
from pipelines.beam_worker import command, died, end_all
from pipelines.isolation import import_path

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineRunner

THREADS_MAX = 4
"""Items are read in processes of their own, so up to here a thread for each is enough; more of them wait for one another."""
LOCAL_RUNNERS = ("directrunner", "direct", "fnapirunner", "bundlebaseddirectrunner")
POLL_S = 0.25
DIED = signal.SIGUSR2


def run_pipeline(
    places: Sequence[int],
    folder: Path,
    recipe: Recipe,
    options: Sequence[str],
    while_running: Callable[[], None],
) -> None:
    """Runs curation over places of the listing (`pipelines.listing`); calls ``while_running`` four times a second until then.

    Raises:
        UsageError: Beam does not accept the options.
        LongreelError: the pipeline failed; the message is its last line.
    """
    from apache_beam import Create

    def build(root: Any) -> Any:
        from pipelines.graph import Curation

        return root | "items" >> Create(list(places)) | "curate" >> Curation(folder, recipe)

    run_beam(build, folder, options, while_running, "curation")


def run_beam(
    build: Callable[[Any], object], folder: Path, options: Sequence[str], while_running: Callable[[], None], what: str
) -> None:
    """Runs the pipeline that ``build`` puts on its root, over a corpus that its workers share.

    Args:
        what: is run, for messages.

    Raises:
        UsageError: Beam does not accept the options.
        LongreelError: the pipeline failed; the message is its last line.
    """
    ended = threading.Event()
    roll = Corpus(folder).work / "workers"
    shutil.rmtree(roll, ignore_errors=True)
    roll.mkdir(parents=True)
    awaited = threading.current_thread() is threading.main_thread()

    def watch() -> None:
        told = False
        while not ended.wait(POLL_S):
            while_running()
            if awaited and not told and died(roll):
                told = True
                signal.pthread_kill(threading.main_thread().ident or 0, DIED)

    # The pipeline has the caller's thread, because the job servers of Flink and Spark set signal handlers.
    watcher = threading.Thread(target=watch, daemon=True)
    with _environment(PYTHONPATH=import_path()), quiet(), _raising(roll) if awaited else contextlib.nullcontext():
        watcher.start()
        try:
            _run(build, options, roll)
        except LongreelError:
            raise
        except Exception as error:
            raise LongreelError(f"{what} failed: {_said(error)}; what is finished is kept, run it again") from error
        finally:
            ended.set()
            watcher.join()
            shutil.rmtree(roll, ignore_errors=True)


@contextlib.contextmanager
def _raising(roll: Path) -> Iterator[None]:
    """Turns the signal `DIED` into an exception in the main thread, which waits for a worker that will never answer."""

    def stop(*_: object) -> None:
        gone = ", ".join(map(str, died(roll)))
        end_all(roll)  # Beam's runner would wait for them, too
        raise RuntimeError(f"worker process {gone} was killed or crashed (is there enough memory?)")

    before = signal.signal(DIED, stop)
    try:
        yield
    finally:
        signal.signal(DIED, before)


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _parsed(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options, each view of them made once.

    Beam asks for a view five hundred times while it builds a pipeline, and makes each by parsing the arguments anew: a quarter
    of its processor time. Views share their values, so nothing else changes.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    class Parsed(PipelineOptions):
        def view_as(self, cls: Any) -> Any:
            views = self.__dict__.setdefault("_parsed_views", {})
            if cls not in views:
                views[cls] = super().view_as(cls)
            return views[cls]

    return Parsed(list(arguments))


def _run(build: Callable[[Any], object], arguments: Sequence[str], roll: Path) -> None:
    import apache_beam as beam

    try:
        options = _parsed(arguments)
        pipeline = beam.Pipeline(runner=local_runner(options, arguments, roll), options=options)
    except (SystemExit, ValueError, ImportError, AttributeError) as error:
        raise UsageError(f"Beam does not accept the options {' '.join(arguments)}: {error}") from error
    build(pipeline)
    pipeline.run().wait_until_finish()


def local_runner(options: PipelineOptions, arguments: Sequence[str], roll: Path) -> PipelineRunner | None:
    """The runner for this machine, its workers as the options say and on the roll; None when the options name a cluster's."""
    from apache_beam.options.pipeline_options import DirectOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    if (options.view_as(StandardOptions).runner or LOCAL_RUNNERS[0]).lower() not in LOCAL_RUNNERS:
        return None
    direct = options.view_as(DirectOptions)
    said = {argument.split("=", 1)[0] for argument in arguments}
    mode = direct.direct_running_mode if "--direct_running_mode" in said else None
    if "--direct_num_workers" not in said:
        direct.direct_num_workers = 1 if mode == "in_memory" else cores()
    if mode is None:
        several = "multi_threading" if direct.direct_num_workers <= THREADS_MAX else "multi_processing"
        mode = several if direct.direct_num_workers != 1 else "in_memory"
    if mode != "multi_processing":
        direct.direct_running_mode = mode
        return FnApiRunner()
    # Named as the environment of the workers, not as a running mode: the mode would start Beam's own worker program.
    direct.direct_running_mode = "in_memory"
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command(roll)))


def readers_at_once(arguments: Sequence[str]) -> int:
    """How many items this process will have read at a time, told without loading Beam; 0 when others will do it."""
    said = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    try:
        workers = int(said.get("--direct_num_workers", cores()))
    except ValueError:
        return 0
    elsewhere = said.get("--runner", LOCAL_RUNNERS[0]).lower() not in LOCAL_RUNNERS
    mode = said.get("--direct_running_mode")
    if elsewhere or mode == "multi_processing" or (mode is None and workers > THREADS_MAX):
        return 0
    return 1 if mode == "in_memory" else workers


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Beam tells of optional libraries and of every bundle; here only errors are worth a line."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for the processes started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
