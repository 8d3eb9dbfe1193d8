"""The requests of Kafka's protocol that set-up needs: what is there, make these topics, delete these. No JVM has to start.

Old versions of all, without tagged fields; Kafka 4 still speaks them.
"""

import contextlib
import socket
import struct

from . import Trouble

METADATA, METADATA_VERSION = 3, 0
CREATE_TOPICS, CREATE_TOPICS_VERSION = 19, 4
DELETE_TOPICS, DELETE_TOPICS_VERSION = 20, 1
TIMEOUT_SECS = 30
TOPIC_EXISTS = 36
TOPIC_UNKNOWN = 3


class Reader:
    """Reads an answer from its start to its end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(f">{form}", self.data, self.at)
        self.at += struct.calcsize(f">{form}")
        return values[0] if len(values) == 1 else values

    def text(self):
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def array(self, item):
        return [item() for _ in range(self.take("i"))]


def text(value):
    encoded = value.encode()
    return struct.pack(">h", len(encoded)) + encoded


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def exactly(connection, length):
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise ConnectionError("the broker closed the connection")
        data += piece
    return data


def ask(port, key, version, body, timeout=TIMEOUT_SECS):
    head = struct.pack(">hhih", key, version, 1, -1)  # correlation 1, no client id
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        (length,) = struct.unpack(">i", exactly(connection, 4))
        answer = Reader(exactly(connection, length))
    answer.take("i")
    return answer


def metadata(port, timeout=TIMEOUT_SECS):
    """Brokers that are ready, and for each topic its partitions with a leader."""
    answer = ask(port, METADATA, METADATA_VERSION, array([]), timeout)
    brokers = answer.array(lambda: (answer.take("i"), answer.text(), answer.take("i")))

    def partition():
        error, _, leader = answer.take("hii")
        answer.array(lambda: answer.take("i"))
        answer.array(lambda: answer.take("i"))
        return error == 0 and leader >= 0

    topics = answer.array(lambda: (answer.take("h"), answer.text(), answer.array(partition)))
    return brokers, {name: sum(partitions) for _, name, partitions in topics}


def is_ready(port):
    with contextlib.suppress(OSError, struct.error):
        brokers, _ = metadata(port, timeout=1)
        return len(brokers) > 0
    return False


def create_topics(port, topics):
    """Makes those that are not there; `topics` is a list of (name, partitions, settings)."""
    wanted = [
        text(name)
        + struct.pack(">ih", partitions, 1)  # one replica: there is one broker
        + array([])
        + array([text(key) + text(str(value)) for key, value in settings.items()])
        for name, partitions, settings in topics
    ]
    body = array(wanted) + struct.pack(">i?", TIMEOUT_SECS * 1000, False)
    answer = ask(port, CREATE_TOPICS, CREATE_TOPICS_VERSION, body)
    answer.take("i")
    for name, error, message in answer.array(lambda: (answer.text(), answer.take("h"), answer.text())):
        if error not in (0, TOPIC_EXISTS):
            raise Trouble(f"Kafka does not make the topic {name}: error {error}, {message}")


def delete_topics(port, names):
    """Deletes those that are there."""
    body = array([text(name) for name in names]) + struct.pack(">i", TIMEOUT_SECS * 1000)
    answer = ask(port, DELETE_TOPICS, DELETE_TOPICS_VERSION, body)
    answer.take("i")
    for name, error in answer.array(lambda: (answer.text(), answer.take("h"))):
        if error not in (0, TOPIC_UNKNOWN):
            raise Trouble(f"Kafka does not delete the topic {name}: error {error}")
