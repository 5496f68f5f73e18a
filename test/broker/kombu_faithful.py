"""A client that says all it wants by itself, so that no rule concerns it: kombu.

usage: kombu_faithful.py PORT NAME COUNT

Sends COUNT messages through a durable quorum queue on a durable exchange and COUNT through a SimpleQueue, on two
connections, every other one compressed. Prints how many came back in order, by name.
"""

import json
import socket
import sys

from kombu import Connection, Consumer, Exchange, Producer, Queue

port, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
QUORUM = {"x-queue-type": "quorum"}
received = {"topic": [], "simple": []}
with Connection(f"amqp://guest:guest@127.0.0.1:{port}//", transport_options={"confirm_publish": True}, heartbeat=20) as there:
    here = there.clone()
    exchange = Exchange(name, "topic", durable=True)
    queue = Queue(name, exchange, "event.#", durable=True, queue_arguments=QUORUM)

    def keep(body, message):
        received["topic"].append(body["number"])
        message.ack()

    with Consumer(here, [queue], callbacks=[keep]) as consumer:
        consumer.qos(prefetch_count=4)
        producer = Producer(there, exchange)
        for number in range(count):
            producer.publish(
                {"number": number, "text": "ü" * number},
                routing_key="event.made",
                compression=[None, "zlib"][number % 2],
                headers={"nested": {"number": number, "list": [1, None, 2.5]}},
                priority=number % 4,
                correlation_id=f"c{number}",
                expiration=600,
            )
        try:
            while len(received["topic"]) < count:
                here.drain_events(timeout=10)
        except socket.timeout:
            pass

    with there.SimpleQueue(f"{name}-simple", queue_args=QUORUM) as simple:
        for number in range(count):
            simple.put({"number": number})
        for _ in range(count):
            message = simple.get(timeout=10)
            received["simple"].append(message.payload["number"])
            message.ack()
    here.heartbeat_check()
    here.release()
print(json.dumps({name: len(numbers) if numbers == list(range(count)) else numbers for name, numbers in received.items()}))
