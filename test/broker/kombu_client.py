"""kombu with its defaults.

usage: kombu_client.py PORT VHOST COUNT

Sends COUNT messages through a SimpleQueue, a SimpleBuffer (transient, auto-delete) and a queue that is bound to a
topic exchange, and prints how many came back in order, by name.
"""

import json
import socket
import sys

from kombu import Connection, Consumer, Exchange, Producer, Queue

port, vhost, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
received = {"simple-queue": [], "simple-buffer": [], "topic": []}
with Connection(f"amqp://guest:guest@127.0.0.1:{port}/{vhost}") as connection:
    for name, make in (("simple-queue", connection.SimpleQueue), ("simple-buffer", connection.SimpleBuffer)):
        with make(f"kombu-{name}") as queue:
            for number in range(count):
                queue.put({"number": number})
            for _ in range(count):
                message = queue.get(timeout=10)
                received[name].append(message.payload["number"])
                if not queue.no_ack:
                    message.ack()

    queue = Queue("kombu-topic", Exchange("kombu-events", "topic", durable=False), "event.#", durable=False)

    def keep(body, message):
        received["topic"].append(body["number"])
        message.ack()

    with Consumer(connection, [queue], callbacks=[keep]):
        producer = Producer(connection)
        for number in range(count):
            producer.publish({"number": number}, exchange="kombu-events", routing_key="event.made")
        try:
            while len(received["topic"]) < count:
                connection.drain_events(timeout=10)
        except socket.timeout:
            pass
print(json.dumps({name: len(numbers) if numbers == list(range(count)) else numbers for name, numbers in received.items()}))
