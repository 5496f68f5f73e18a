"""A client that says all it wants by itself, so that no rule concerns it: pika.

usage: pika_faithful.py PORT NAME

Works on a durable quorum queue, an exclusive one and two exchanges of that NAME, on two connections at a time, with
arguments and headers of every type that pika has. Prints what it got as one JSON object.
"""

import datetime
import decimal
import json
import sys

import pika

port, name = int(sys.argv[1]), sys.argv[2]
TABLE = {
    "text": "grün",
    "octets": b"\x00\xff",
    "small": 7,
    "large": 2**40,
    "yes": True,
    "nothing": None,
    "amount": decimal.Decimal("3.14"),
    "when": datetime.datetime(2024, 2, 29, 12, 0, 0),
    "list": [1, "two", {"three": [3]}],
    "table": {"empty": {}, "none": []},
}
parameters = pika.ConnectionParameters("127.0.0.1", port, client_properties={"connection_name": name})
first, second = pika.BlockingConnection(parameters), pika.BlockingConnection(parameters)
got = {}

channel = first.channel()
channel.exchange_declare(name, "headers", durable=True, arguments={"alternate-exchange": name + "-rest", **TABLE})
channel.exchange_declare(name + "-rest", "fanout", durable=True, internal=True)
channel.exchange_bind(name + "-rest", name, arguments={"x-match": "any", "small": 7})
channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 5})
channel.queue_declare(name, passive=True)
channel.queue_bind(name, name, "", arguments={"x-match": "all", "text": "grün"})
channel.confirm_delivery()
returned = []
for number, size in enumerate([0, 1, 4096, 131_064, 131_065, 300_000]):
    properties = pika.BasicProperties(
        content_type="application/octet-stream",
        content_encoding="identity",
        headers={"number": number, **TABLE},
        delivery_mode=2 - number % 2,
        priority=number,
        correlation_id=str(number),
        reply_to="amq.rabbitmq.reply-to.none",
        expiration="600000",
        message_id="m%d" % number,
        timestamp=1_700_000_000 + number,
        type="type",
        user_id="guest",
        app_id="app",
    )
    channel.basic_publish(name, "key", bytes([0xCE]) * size, properties, mandatory=True)
try:
    channel.basic_publish("", "nobody is there", b"back", mandatory=True)
except pika.exceptions.UnroutableError as error:
    returned = [message.body.decode() for message in error.messages]
got["returned"] = returned

reader = second.channel()
reader.basic_qos(prefetch_count=3)
got["sizes"] = []
for method, _, body in reader.consume(name, arguments={"x-priority": 5}, inactivity_timeout=10):
    if method is None:
        break
    if not method.redelivered and len(got["sizes"]) == 1:
        reader.basic_nack(method.delivery_tag, requeue=True)
        continue
    got["sizes"].append(len(body))
    reader.basic_ack(method.delivery_tag)
    if len(got["sizes"]) == 6:
        break
got["sizes"].sort()
reader.cancel()

own = reader.queue_declare("", exclusive=True).method.queue
reader.queue_bind(own, "amq.topic", "key.#")
reader.tx_select()
reader.basic_publish("amq.topic", "key.a", b"kept")
reader.tx_commit()
reader.basic_publish("amq.topic", "key.b", b"undone")
reader.tx_rollback()
got["own"] = [reader.basic_get(own, auto_ack=True)[2].decode(), reader.basic_get(own)[0]]
reader.queue_unbind(own, "amq.topic", "key.#")
reader.queue_delete(own)

refused = second.channel()
try:
    refused.queue_declare(name + "-missing", passive=True)
except pika.exceptions.ChannelClosedByBroker as error:
    got["refused"] = error.reply_code

channel.queue_purge(name)
channel.queue_delete(name)
channel.exchange_delete(name, if_unused=False)
channel.exchange_delete(name + "-rest")
second.close()
first.close()
print(json.dumps(got))
