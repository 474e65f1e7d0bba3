"""Curates on a real Flink of two task managers, started on this machine, and compares the bytes with a local curation.

    python tests/pipelines/flink_curation.py examples/corpus

Needs Java 11 to 17 and Maven; ``make flink-test`` is this program. Nothing here is cluster code of ours: the program downloads
Flink (the distribution that PyPI carries) and Beam's job server (from Maven Central), starts them as their manuals say, and
passes the curation Beam's own options. It is kept beside the tests, because curation itself knows no engine.

Versions: for Flink 1.19 and Beam 2.62 everything of Beam's job server was found on Maven Central in November 2026; the single
jar that Beam 2.77 would fetch by itself was not. The job server talks to Beam's portable protocol, so a Python 2.77 pipeline
runs on it. ``--job-server-jar`` takes another jar for the same Flink.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from manifests.corpus import Corpus
from pipelines.isolation import import_path

FLINK, SERIES, JOB_SERVER = "1.19.3", "1.19", "2.62.0"
CACHE = Path(__file__).parents[2] / ".venv" / "flink"
START_LIMIT_S = 120.0
POM = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>longreel</groupId><artifactId>job-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>org.apache.beam</groupId><artifactId>beam-runners-flink-{series}</artifactId><version>{version}</version>
  </dependency></dependencies>
</project>
"""
# What Flink's start script computes from one figure; the processes started without it want every part by name.
CONFIGURATION = {
    "jobmanager.rpc.address": "localhost",
    "jobmanager.bind-host": "localhost",
    "taskmanager.bind-host": "localhost",
    "taskmanager.host": "localhost",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
    "taskmanager.numberOfTaskSlots": "1",
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.network.min": "256m",
    "taskmanager.memory.network.max": "256m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.jvm-metaspace.size": "128m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}
# Flink 1.x serialises by reflection, which Java 17 allows only where it is told to.
OPENED = ("java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.io", "java.nio", "java.text", "java.time")
OPENED += ("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks", "sun.nio.ch")
JAVA = ["java", *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED)]


def fetch_flink(cache: Path) -> Path:
    """The folder of Flink's jars, downloaded once."""
    libraries = cache / f"flink-{FLINK}"
    if not libraries.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            requirement = f"apache-flink-libraries=={FLINK}"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder]
            subprocess.run([*pip, requirement], check=True)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            (found,) = Path(folder).glob("*/deps/lib")
            found.rename(libraries)
    return libraries


def fetch_job_server(cache: Path) -> Path:
    """Beam's job server as a jar that names its libraries, downloaded once."""
    folder = cache / f"job-server-{SERIES}-{JOB_SERVER}"
    jar = folder / "job-server.jar"
    if not jar.is_file():
        (folder / "lib").mkdir(parents=True, exist_ok=True)
        (folder / "pom.xml").write_text(POM.format(series=SERIES, version=JOB_SERVER))
        copy = ["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies"]
        subprocess.run([*copy, "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'lib'}"], check=True)
        _write_manifest(jar, sorted((folder / "lib").glob("*.jar")))
    return jar


def _write_manifest(jar: Path, libraries: list[Path]) -> None:
    path = "Class-Path: " + " ".join(f"lib/{library.name}" for library in libraries)
    lines = [path[:70], *(" " + path[start : start + 69] for start in range(70, len(path), 69))]
    text = "\r\n".join(
        ["Manifest-Version: 1.0", "Main-Class: org.apache.beam.runners.flink.FlinkJobServerDriver", *lines, "", ""]
    )
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", text)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def flink(libraries: Path, folder: Path, task_managers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A Flink session cluster with a pool of Beam workers for each task manager.

    Task managers number their workers alike, so that two on one pool would stop each other's: each finds a pool of its own
    under the name ``workers``, as it would on a machine of its own under ``localhost``.

    Returns:
        Beam's options to use it, and the task managers' processes.
    """
    rest, rpc, pool = free_port(), free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**CONFIGURATION, "rest.port": str(rest), "jobmanager.rpc.port": str(rpc), "io.tmp.dirs": str(folder)}
    (folder / "flink-conf.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    flink_class = "org.apache.flink.runtime"
    base = [*JAVA, "-cp", f"{libraries}/*"]
    with contextlib.ExitStack() as stack:

        def begin(name: str, command: list[str]) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            # Beam's worker pool starts whichever `python` comes first.
            path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            environment = {**os.environ, "PYTHONPATH": import_path(), "PATH": path}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
            stack.callback(_end, process)
            return process

        begin(
            "jobmanager",
            [*base, "-Xmx512m", f"{flink_class}.entrypoint.StandaloneSessionClusterEntrypoint", "--configDir", str(folder)],
        )
        workers = []
        for number in range(task_managers):
            address = f"127.0.0.{number + 1}"
            begin(f"workers-{number}", [sys.executable, __file__, "--worker-pool", f"{address}:{pool}"])
            hosts = folder / f"hosts-{number}"
            hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n{address} workers\n")
            runner = [f"-Djdk.net.hosts.file={hosts}", f"{flink_class}.taskexecutor.TaskManagerRunner"]
            workers.append(begin(f"taskmanager-{number}", [*base, "-Xmx384m", *runner, "--configDir", str(folder)]))
        _wait_for(f"http://localhost:{rest}/taskmanagers", workers, folder)
        options = f"--runner=FlinkRunner --flink_master=localhost:{rest} --flink_version={SERIES} --parallelism={task_managers}"
        yield f"{options} --environment_type=EXTERNAL --environment_config=workers:{pool}", workers


def serve_worker_pool(address: str) -> None:
    """Beam's external worker pool; Beam's own program for it listens on every address of the machine."""
    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2_grpc
    from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
    from apache_beam.utils import thread_pool_executor

    server = grpc.server(thread_pool_executor.shared_unbounded_instance())
    server.add_insecure_port(address)
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.start()
    server.wait_for_termination()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(url: str, workers: list[subprocess.Popen[bytes]], logs: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and all(worker.poll() is None for worker in workers):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
            if reply.read().count(b'"path"') == len(workers):
                return
        time.sleep(0.5)
    lines = [line for log in sorted(logs.glob("taskmanager*.log")) for line in log.read_text(errors="replace").splitlines()]
    said = next((line for line in reversed(lines) if line.startswith("Caused by")), "they said nothing")
    raise RuntimeError(f"Flink's {len(workers)} task managers were not there within {START_LIMIT_S:g} s: {said}")


def run(out: Path, options: list[str], inputs: list[Path]) -> float:
    """Curates by the command line; returns the seconds it took."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "longreel", "curate", *map(str, inputs), "--out", str(out), "--recipe", "laptop", *options]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": import_path()}, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"curation ended with {done.returncode}: {' '.join(command)}")
    return time.monotonic() - begun


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--worker-pool", metavar="ADDRESS", help="be a pool of Beam workers, and nothing else")
    parser.add_argument("--job-server-jar", type=Path, help="Beam's job server instead of the downloaded one")
    parser.add_argument("--keep", type=Path, help="folder for the corpora and the logs of Flink; default: removed at the end")
    arguments = parser.parse_args()
    if arguments.worker_pool:
        serve_worker_pool(arguments.worker_pool)
        return 0
    libraries = fetch_flink(CACHE)
    jar = arguments.job_server_jar or fetch_job_server(CACHE)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="longreel-flink-"))
    try:
        local_s = run(folder / "local", [], arguments.inputs)
        with flink(libraries, folder / "flink") as (options, _):
            flink_s = run(folder / "corpus", [*options.split(), f"--flink_job_server_jar={jar}"], arguments.inputs)
        local, clustered = Corpus(folder / "local").digest(), Corpus(folder / "corpus").digest()
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    same = local == clustered
    print(f"local {local_s:.1f} s {local}\nFlink {flink_s:.1f} s {clustered}\n{'identical' if same else 'DIFFERENT'}")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
