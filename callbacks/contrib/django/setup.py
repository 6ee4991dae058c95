"""Loads a Django project in a worker or scheduler, which does not start with `manage.py`.

To be named after `callbacks`, with the variable DJANGO_SETTINGS_MODULE set:
`dramatiq callbacks callbacks.contrib.django.setup yourapp.tasks`.
"""

from __future__ import annotations

import django

django.setup()
