"""The acceptance client that is not JavaScript: pika (Debian's python3-pika), declarations of the 3.x era.

usage: pika_acceptance.py PORT PREFIX COUNT

Declares PREFIX-queue (auto-delete, not durable) and PREFIX-exchange (not durable), sends COUNT confirmed messages
through them, consumes them all and prints `received N`. Goes when its input ends.
"""

import sys

import pika

port, prefix, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
queue, exchange = prefix + "-queue", prefix + "-exchange"
connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, blocked_connection_timeout=30))
channel = connection.channel()
channel.confirm_delivery()
channel.exchange_declare(exchange, "topic", durable=False, auto_delete=False)
channel.queue_declare(queue, durable=False, exclusive=False, auto_delete=True)
channel.queue_bind(queue, exchange, "key")
for number in range(count):
    channel.basic_publish(exchange, "key", str(number).encode(), mandatory=True)

received = []
for method, _, body in channel.consume(queue, inactivity_timeout=10):
    if method is None:
        break
    received.append(int(body))
    channel.basic_ack(method.delivery_tag)
    if len(received) == count:
        break
assert received == list(range(count)), received
print("received", len(received), flush=True)
sys.stdin.read()
connection.close()
