"""Flask: when a job ends, its customer is told; and how a customer receives that.

What all processes have to agree on goes into one file, once:

    cat >callbacks.env <<END
    export CALLBACKS_ALLOWED_NETWORKS=127.0.0.0/8 CALLBACKS_SECRET=$(callbacks secret new)
    END

Then, each in a terminal of its own that has read it (`. ./callbacks.env`):

    flask --app flask_app run
    dramatiq callbacks flask_app --processes 1 --threads 16

And in any terminal:

    curl -X POST 'http://127.0.0.1:5000/jobs?text=hello&callback_url=http://127.0.0.1:5000/hooks'
    curl http://127.0.0.1:5000/received
"""

import os
import uuid

import dramatiq
from flask import Flask, abort, jsonify, request
from standardwebhooks import Webhook, WebhookVerificationError

from callbacks import configure, enqueue

# In each process that loads this module; a variable of the environment comes first.
configure(max_delay=0.5)

app = Flask(__name__)


@dramatiq.actor  # without a broker of your own, actors are on that of callbacks
def shout(job_id: str, text: str, callback_url: str) -> None:
    result = {"job": job_id, "text": text.upper()}
    enqueue(callback_url, result, event="job.done", id=job_id)  # repeated, it is sent once


@app.post("/jobs")
def start():
    job_id = str(uuid.uuid4())
    shout.send(job_id, request.args["text"], request.args["callback_url"])
    return jsonify(job=job_id), 202


# The customer's side

received = {}


@app.post("/hooks")
def receive():
    try:
        event = Webhook(os.environ["CALLBACKS_SECRET"]).verify(request.get_data(), request.headers)
    except WebhookVerificationError:
        abort(401)
    received[request.headers["webhook-id"]] = event  # the same id may come more than once
    return "", 204


@app.get("/received")
def show():
    return jsonify(received)
