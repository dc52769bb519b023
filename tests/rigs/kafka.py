"""Owns a real Kafka broker for tests: fetched by Maven, one KRaft node on free ports, killed and brought back at will.

Owns no topics beyond creating them, and no clients: tests bring their own.
"""

import contextlib
import hashlib
import re
import shutil
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from tests.rigs.ports import free_ports
from tests.rigs.small_disk import SmallDisk

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).parents[2] / ".cache"
START_TIMEOUT_SECONDS = 60.0

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.threads=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=8388608
"""  # a killed broker is let in again when its session is over: 9 s by default


class KafkaUnavailable(Exception):
    """Kafka cannot be had on this machine; the message says what is missing."""


def fetch() -> Path:
    """The folder of Kafka's jars, fetched once into the cache.

    Raises KafkaUnavailable without Java, or without Maven where the jars are not there yet.
    """
    check_java()
    jars = CACHE / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise KafkaUnavailable("no `mvn` here (Maven, which fetches Kafka's jars)")
    half = CACHE / f"{jars.name}.{uuid.uuid4().hex}"  # a fetch that was cut short is never used
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={half}"]
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", POM, *copy],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        shutil.rmtree(half, ignore_errors=True)
        why = (done.stdout.strip() or done.stderr.strip() or "no message").splitlines()[0]
        raise KafkaUnavailable(f"Maven could not fetch Kafka: {why}")
    with contextlib.suppress(OSError):  # another run was faster
        half.rename(jars)
    shutil.rmtree(half, ignore_errors=True)
    return jars


def check_java() -> None:
    """Raises KafkaUnavailable where there is no Java, or one that Kafka does not run on."""
    if shutil.which("java") is None:
        raise KafkaUnavailable("no `java` here (17 or newer)")
    says = subprocess.run(["java", "-version"], check=False, capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', says)
    if found is None or int(found[1]) < 17:
        raise KafkaUnavailable(f"`java` here is not 17 or newer, it says: {says[:80]!r}")


class Kafka:
    """One broker with its data in `folder`; its address stays the same over restarts."""

    def __init__(self, folder: Path, disk: SmallDisk | None = None) -> None:
        """With a disk its data is there."""
        self._jars = fetch()
        self._launcher = [] if disk is None else disk.launcher
        data = (folder if disk is None else disk.path) / "data"
        self._formatted = (data if disk is None else disk.from_outside / "data") / "meta.properties"
        self._properties = folder / "server.properties"
        self._output = folder / "output.txt"
        self._port, controller_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(
            PROPERTIES.format(port=self._port, controller_port=controller_port, logs=data)
        )

    @property
    def bootstrap(self) -> str:
        """What clients take as `bootstrap_servers`."""
        return f"127.0.0.1:{self._port}"

    @property
    def data(self) -> Path:
        """Where everything is that it keeps."""
        return self._formatted.parent

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, and return when clients are served; nothing to do if it already runs. Blocks."""
        if self.running:
            return
        if not self._formatted.exists():
            format_storage = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(self._properties)]
            subprocess.run(
                [*self._java("kafka.tools.StorageTool"), *format_storage],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._java("kafka.Kafka"), self._properties],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._wait_until_served()

    def stop(self) -> None:
        """Stop in good order: everything is flushed."""
        self._end(kill=False)

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing said to clients."""
        self._end(kill=True)

    def recover(self) -> None:
        """Run again, whatever the last test did."""
        self.start()

    def restart(self) -> None:
        """Stop if it still runs, and come back at the same address with the same data."""
        self.stop()
        self.start()

    async def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic; raises what the broker said if it refused."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            topic = NewTopic(name, partitions, 1, topic_configs=dict(config or {}))
            answer = await admin.create_topics([topic])
        finally:
            await admin.close()
        for _, code, message in answer.topic_errors:
            if code != 0:
                raise for_code(code)(message)

    def _java(self, main: str) -> list[str]:
        # C1 alone: half the processor time of a start, and no test runs long enough to miss C2.
        options = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [*self._launcher, "java", *options, "-cp", f"{self._jars}/*", main]

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until_served(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not serves(self._port):
            if not self.running or time.monotonic() > deadline:
                self.kill()
                said = self._output.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"Kafka did not start; it said: {said or 'nothing'}")
            time.sleep(0.05)


def serves(port: int) -> bool:
    """Whether a broker is listed in the cluster's metadata: an open port alone comes too early."""
    metadata_v1_of_no_topic = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            length = struct.pack(">i", len(metadata_v1_of_no_topic))
            connection.sendall(length + metadata_v1_of_no_topic)
            answer = connection.makefile("rb").read(12)  # length, correlation id, brokers
    except OSError:
        return False
    return len(answer) == 12 and int(struct.unpack(">iii", answer)[2]) > 0
