"""`callbacks web`: health check, metrics, a page of numbers, and the console (Flask, Jinja2).

Other packages use `app.create_app`, `source.Source` and `server.Server`. What it shows and does is
in `monitor` and `callbacks.admin`; here is how that becomes pages, and who may see them.
"""
