"""A client of celery_worker.py.

usage: celery_client.py PORT VHOST

Prints one JSON object: what the tasks returned, and what the worker answered to remote control.
"""

import json

from celery import group

from celery_app import add, app, flaky

WAIT = 10
print(
    json.dumps(
        {
            "task": add.delay(2, 3).get(timeout=WAIT),
            "group": group(add.s(number, number) for number in range(10))().get(timeout=WAIT),
            "countdown": add.apply_async((20, 3), countdown=1).get(timeout=WAIT),
            "retry": flaky.delay().get(timeout=WAIT),
            "ping": [answer for worker in app.control.ping(timeout=1) for answer in worker.values()],
            "registered": [sorted(tasks) for tasks in app.control.inspect(timeout=1).registered().values()],
        }
    )
)
