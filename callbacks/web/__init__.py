"""`callbacks web`: health check, metrics and status page, as one WSGI application.

Others use `app.App` and `app.Latest`. It shows what the monitor tells, reads nothing by itself
and changes nothing.
"""
