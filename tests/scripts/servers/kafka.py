"""Kafka: one broker that is its own controller (KRaft), on 127.0.0.1."""

import contextlib
import shutil
import struct
import subprocess

from . import Trouble, provision, tls, wire
from .process import Server, wait_until
from .topics import LARGEST_BYTES, topics

# Any will do: each folder is a cluster of its own.
CLUSTER_ID = "dmVyZGljdC1zZXJ2ZXJzIQ"
HEAP_MIB = 512
# Who may enter over TLS. No secret: it guards nothing but test data on this machine.
USER, PASSWORD, MECHANISM = "verdict", "local-password", "SCRAM-SHA-256"
TOPICS_SECS = 30

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
    # One broker holds everything.
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "auto.create.topics.enable": "false",
    "message.max.bytes": LARGEST_BYTES,
    "replica.fetch.max.bytes": LARGEST_BYTES,
    # A group starts with its first member; tests may have members that are missed soon.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # After a kill the controller, itself new, waits as long before it takes the broker back.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    # A small machine.
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
}

# Compiled once and not for speed: a test's broker lives for seconds.
QUICK_JVM = [f"-Xmx{HEAP_MIB}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
# What `bin/kafka-server-start.sh` of Kafka asks for.
LASTING_JVM = ["-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]


class Kafka(Server):
    """`options`: `properties` (more settings of the broker), `partitions` (of Verdict's topics; 0 makes none),
    `secured` (a second listener, with TLS and SCRAM), `lasting` (a JVM set up for a long run, as brokers' own scripts do it,
    rather than for a quick start)."""

    name = "kafka"
    ports = ("port", "controller_port")

    def __init__(self, folder, options, known=None, **common):
        super().__init__(folder, known, **common)
        self.options = options
        self.secured = options.get("secured", False)
        if self.secured:
            self.ports = (*self.ports, "secured_port")

    @property
    def properties(self):
        return self.folder / "kafka.properties"

    def settings(self):
        listeners = f"PLAINTEXT://127.0.0.1:{self.port()}"
        controller = f"127.0.0.1:{self.port('controller_port')}"
        return SETTINGS | {
            "listeners": f"{listeners},CONTROLLER://{controller}",
            "advertised.listeners": listeners,
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": self.folder / "data",
        } | (self.secured_settings(listeners, controller) if self.secured else {}) | self.options.get("properties", {})

    def secured_settings(self, listeners, controller):
        both = f"{listeners},SASL_SSL://127.0.0.1:{self.port('secured_port')}"
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return {
            "listeners": f"{both},CONTROLLER://{controller}",
            "advertised.listeners": both,
            "sasl.enabled.mechanisms": MECHANISM,
            f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": login,
            "listener.name.sasl_ssl.ssl.keystore.type": "PEM",
            "listener.name.sasl_ssl.ssl.keystore.location": self.folder / "tls/broker.pem",
        }

    def prepare(self):
        if self.secured and not (self.folder / "tls/broker.pem").exists():
            tls.make(self.folder / "tls")
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in self.settings().items()))
        if not (self.folder / "data").exists():
            shutil.copytree(self.formatted(), self.folder / "data")

    def formatted(self):
        """An empty storage folder, made once: that takes a JVM of its own."""
        kept = provision.KAFKA_HOME / "storage"
        if kept.is_dir():
            return kept
        made = self.folder / "formatted"
        properties = self.folder / "format.properties"
        settings = self.settings() | {"log.dirs": made}
        properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        words = ["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", str(properties)]
        words += ["--add-scram", f"{MECHANISM}=[name={USER},password={PASSWORD}]"]
        done = subprocess.run(self.java(*words), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Trouble(f"Kafka's storage tool ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        # Others may have been quicker; theirs is as good.
        with contextlib.suppress(OSError):
            made.rename(kept)
        return kept

    def java(self, *words):
        java = provision.java()
        if java is None or not provision.KAFKA_LIBS.is_dir():
            raise Trouble("Kafka is not installed here; `make setup-servers` does that")
        flags = QUICK_JVM if not self.options.get("lasting") else LASTING_JVM
        logging = f"-Dlog4j2.configurationFile={provision.ROOT / 'tests/scripts/servers/kafka-log4j2.properties'}"
        return [str(java), *flags, logging, "-cp", f"{provision.KAFKA_LIBS}/*", *words]

    def command(self):
        return self.java("kafka.Kafka", str(self.properties))

    def is_ready(self):
        return wire.is_ready(self.port())

    def start(self):
        super().start()
        if self.options.get("partitions"):
            self.create(topics(self.options["partitions"]))

    def create(self, wanted):
        """Makes topics that are not there, and waits until each partition has its leader."""
        wire.create_topics(self.port(), wanted)

        def are_there():
            with contextlib.suppress(OSError, struct.error):
                _, found = wire.metadata(self.port())
                return all(found.get(name, 0) >= partitions for name, partitions, _ in wanted)
            return False

        if not wait_until(are_there, TOPICS_SECS):
            raise Trouble(f"Kafka did not make all of {', '.join(name for name, _, _ in wanted)}")

    def delete(self, names):
        """Deletes topics, and waits until nobody knows them."""
        wire.delete_topics(self.port(), names)

        def are_gone():
            with contextlib.suppress(OSError, struct.error):
                _, found = wire.metadata(self.port())
                return not any(name in found for name in names)
            return False

        if not wait_until(are_gone, TOPICS_SECS):
            raise Trouble(f"Kafka did not delete all of {', '.join(names)}")

    def details(self):
        known = {"bootstrap_servers": f"127.0.0.1:{self.port()}"}
        if self.secured:
            # As librdkafka names them.
            known["secured"] = {
                "bootstrap.servers": f"127.0.0.1:{self.port('secured_port')}",
                "security.protocol": "SASL_SSL",
                "ssl.ca.location": str(self.folder / "tls/ca.pem"),
                "sasl.mechanism": MECHANISM,
                "sasl.username": USER,
                "sasl.password": PASSWORD,
            }
        return known
