"""A client of oslo_server.py: oslo.messaging with its default options.

usage: oslo_client.py PORT VHOST ROUND

Prints what each RPC call returned, then casts to one server, casts to all of them and notifies.
"""

import json
import logging
import os
import sys

from oslo_config import cfg
import oslo_messaging as messaging

TOPIC, NOTIFICATIONS, CALLS = "compute", "notifications", 20
port, vhost, round_ = sys.argv[1:]
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
conf = cfg.CONF
conf([])
url = f"rabbit://guest:guest@127.0.0.1:{port}/{vhost}"

transport = messaging.get_rpc_transport(conf, url)
client = messaging.get_rpc_client(transport, messaging.Target(topic=TOPIC, version="1.0"), timeout=15)
answers = [client.call({}, "add", a=number, b=1) for number in range(CALLS)]
print(json.dumps([answer["sum"] for answer in answers]))
print(json.dumps(client.prepare(server="second").call({}, "add", a=40, b=2)))
client.prepare(server="first").cast({}, "note", text=f"to-one-{round_}")
client.prepare(fanout=True).cast({}, "note", text=f"to-all-{round_}")
notifications = messaging.get_notification_transport(conf, url)
notifier = messaging.Notifier(notifications, f"service-{round_}", driver="messagingv2", topics=[NOTIFICATIONS])
for number in range(3):
    notifier.info({}, "instance.created", {"number": number})
for used in (transport, notifications):
    used.cleanup()
sys.stdout.flush()
os._exit(0)  # a normal exit waits ten seconds for a thread that sends oslo.messaging's metrics
