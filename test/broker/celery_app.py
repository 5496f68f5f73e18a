"""A Celery application with its defaults, and results by message (rpc://), at the PORT and VHOST of its program."""

import sys

from celery import Celery

app = Celery("tasks", broker=f"amqp://guest:guest@127.0.0.1:{sys.argv[1]}/{sys.argv[2]}", backend="rpc://")


@app.task
def add(a, b):
    return a + b


@app.task(bind=True, default_retry_delay=1)
def flaky(self):
    """Fails once, and then returns how often it was tried again."""
    if self.request.retries < 1:
        raise self.retry()
    return self.request.retries
