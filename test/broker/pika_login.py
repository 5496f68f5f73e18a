"""pika by TLS, which logs in by its certificate where it has one, and else by user and password.

usage: pika_login.py PORT CA [CERTIFICATE KEY | USER PASSWORD]

CA, CERTIFICATE and KEY are PEM, not the names of files. Publishes a confirmed message to an exclusive queue and prints what it gets back, or why it isn't let in.
"""

import ssl
import sys
import tempfile

import pika

port, ca, first, second = sys.argv[1:]
context = ssl.create_default_context(cadata=ca)
if first.startswith("-----BEGIN"):
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
        both.write(first + second)
        both.flush()
        context.load_cert_chain(both.name)
    login = pika.credentials.ExternalCredentials()
else:
    login = pika.PlainCredentials(first, second)
parameters = pika.ConnectionParameters(
    "127.0.0.1", int(port), credentials=login, ssl_options=pika.SSLOptions(context, "localhost")
)
try:
    connection = pika.BlockingConnection(parameters)
except pika.exceptions.AMQPConnectionError as refused:
    print(type(refused).__name__, *refused.args)
    sys.exit(0)
channel = connection.channel()
channel.confirm_delivery()
queue = channel.queue_declare("", exclusive=True).method.queue
channel.basic_publish("", queue, b"it is me", mandatory=True)
print(channel.basic_get(queue, auto_ack=True)[2].decode())
connection.close()
