"""The worker of celery_app.py, with Celery's defaults but for the pool (one process).

usage: celery_worker.py PORT VHOST

Logs `ready.` when it works. Stops, when its input ends, as at SIGTERM.
"""

import os
import signal
import sys
import threading

from celery_app import app


def stop_at_the_end_of_input():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=stop_at_the_end_of_input, daemon=True).start()
app.worker_main(["worker", "--pool=solo", "--loglevel=INFO"])
