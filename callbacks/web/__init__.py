"""`callbacks web`: health check, metrics and status page, as one WSGI application (Flask).

Other packages use `app.create_app`, `source.Source` and `server.Server`. It shows what the monitor
reads, and changes nothing.
"""
