"""The servers of an OpenStack service: oslo.messaging with its default options.

usage: oslo_server.py PORT VHOST ROUND

Starts two RPC servers of one topic, first and second, and a notification listener. Prints `started` when all of them
listen, and a line for each message that they get. When its input ends, it stops them and prints `stopped`; servers
that never came to listen can't be stopped, so it gives them up and ends with 1.
"""

import logging
import os
import sys
import threading

from oslo_config import cfg
import oslo_messaging as messaging

TOPIC, NOTIFICATIONS = "compute", "notifications"
port, vhost, round_ = sys.argv[1:]
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
conf = cfg.CONF
conf([])
url = f"rabbit://guest:guest@127.0.0.1:{port}/{vhost}"


class Endpoint:
    target = messaging.Target(version="1.0")

    def __init__(self, server):
        self.server = server

    def add(self, context, a, b):
        return {"server": self.server, "round": round_, "sum": a + b}

    def note(self, context, text):
        print("cast", self.server, text, flush=True)


class Listener:
    def info(self, context, publisher, event, payload, metadata):
        print("notification", publisher, event, payload["number"], flush=True)


def rpc_server(server):
    target = messaging.Target(topic=TOPIC, server=server)
    return messaging.get_rpc_server(messaging.get_rpc_transport(conf, url), target, [Endpoint(server)], "threading")


servers = [rpc_server("first"), rpc_server("second")]
servers.append(
    messaging.get_notification_listener(
        messaging.get_notification_transport(conf, url), [messaging.Target(topic=NOTIFICATIONS)], [Listener()], "threading"
    )
)


started = threading.Event()


def serve():
    for server in servers:
        server.start()
    started.set()
    print("started", flush=True)


# A daemon: where the broker refuses a queue, start() tries for ever.
threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
if not started.is_set():
    os._exit(1)


def stop(server):
    server.stop()
    server.wait()
    server.transport.cleanup()


# Side by side: each ends its poll of several seconds first.
stopping = [threading.Thread(target=stop, args=[server]) for server in servers]
for thread in stopping:
    thread.start()
for thread in stopping:
    thread.join()
print("stopped", flush=True)
