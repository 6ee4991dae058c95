"""Django: when a job ends, its customer is told; and how a customer receives that.

A project in one file, which is its settings, too. What all processes have to agree on goes into
another file, once:

    cat >callbacks.env <<END
    export CALLBACKS_ALLOWED_NETWORKS=127.0.0.0/8 CALLBACKS_SECRET=$(callbacks secret new)
    export DJANGO_SETTINGS_MODULE=django_app PYTHONPATH=.
    END

Then, each in a terminal of its own that has read it (`. ./callbacks.env`):

    python -m django runserver
    dramatiq callbacks callbacks.contrib.django.setup django_app --processes 1 --threads 16

And in any other one that has read it:

    python -m django check
    curl -X POST 'http://127.0.0.1:8000/jobs?text=hello&callback_url=http://127.0.0.1:8000/hooks'
    curl http://127.0.0.1:8000/received
    python -m django callbacks status
"""

import os
import uuid

import dramatiq
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from standardwebhooks import Webhook, WebhookVerificationError

from callbacks import enqueue

SECRET_KEY = os.environ.get("SECRET_KEY", "only for this example")
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "django_app"
INSTALLED_APPS = ["callbacks.contrib.django"]
# In each process with these settings; a variable of the environment comes first.
CALLBACKS = {"MAX_DELAY": 0.5}


@dramatiq.actor  # without a broker of your own, actors are on that of callbacks
def shout(job_id: str, text: str, callback_url: str) -> None:
    result = {"job": job_id, "text": text.upper()}
    enqueue(callback_url, result, event="job.done", id=job_id)  # repeated, it is sent once


@csrf_exempt
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    job_id = str(uuid.uuid4())
    shout.send(job_id, request.GET["text"], request.GET["callback_url"])
    return JsonResponse({"job": job_id}, status=202)


# The customer's side

received = {}


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    try:
        event = Webhook(os.environ["CALLBACKS_SECRET"]).verify(request.body, request.headers)
    except WebhookVerificationError:
        return HttpResponse(status=401)
    received[request.headers["webhook-id"]] = event  # the same id may come more than once
    return HttpResponse(status=204)


def show(request: HttpRequest) -> HttpResponse:
    return JsonResponse(received)


urlpatterns = [path("jobs", start), path("hooks", receive), path("received", show)]
