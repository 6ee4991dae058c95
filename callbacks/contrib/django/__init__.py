"""callbacks in a Django project: `"callbacks.contrib.django"` in INSTALLED_APPS.

Settings are in `settings.CALLBACKS`, by the names of their variables without `CALLBACKS_`; a
variable of the environment comes first. `python manage.py check` checks them, and
`python manage.py callbacks ...` is the command `callbacks` with the project's settings. Workers and
the scheduler load the project by the module `callbacks.contrib.django.setup`. See docs/django.md.
"""
