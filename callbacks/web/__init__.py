"""`callbacks web`: health check, metrics and status page, as one WSGI application.

Other packages use `app.App` and `app.Latest`. It shows what the monitor reads, and changes
nothing.
"""
