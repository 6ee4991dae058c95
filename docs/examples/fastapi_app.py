"""FastAPI: when a job ends, its customer is told; and how a customer receives that.

What all processes have to agree on goes into one file, once:

    cat >callbacks.env <<END
    export CALLBACKS_ALLOWED_NETWORKS=127.0.0.0/8 CALLBACKS_SECRET=$(callbacks secret new)
    END

Then, each in a terminal of its own that has read it (`. ./callbacks.env`):

    uvicorn fastapi_app:app
    dramatiq callbacks fastapi_app --processes 1 --threads 16

And in any terminal:

    curl -X POST 'http://127.0.0.1:8000/jobs?text=hello&callback_url=http://127.0.0.1:8000/hooks'
    curl http://127.0.0.1:8000/received
"""

import os
import uuid

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from standardwebhooks import Webhook, WebhookVerificationError

from callbacks import aenqueue, configure

# In each process that loads this module; a variable of the environment comes first.
configure(max_delay=0.5)

app = FastAPI()


async def shout(job_id: str, text: str, callback_url: str) -> None:
    result = {"job": job_id, "text": text.upper()}
    await aenqueue(callback_url, result, event="job.done", id=job_id)  # repeated, it is sent once


@app.post("/jobs", status_code=202)
async def start(text: str, callback_url: str, tasks: BackgroundTasks):
    job_id = str(uuid.uuid4())
    tasks.add_task(shout, job_id, text, callback_url)
    return {"job": job_id}


# The customer's side

received = {}


@app.post("/hooks", status_code=204)
async def receive(request: Request):
    try:
        event = Webhook(os.environ["CALLBACKS_SECRET"]).verify(
            await request.body(), dict(request.headers)
        )
    except WebhookVerificationError:
        raise HTTPException(401) from None
    received[request.headers["webhook-id"]] = event  # the same id may come more than once


@app.get("/received")
async def show():
    return received
