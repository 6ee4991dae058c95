"""The request: what a receiver gets, checked and frozen at enqueue.

Envelope, headers, URL and destination, signature, secrets. `freeze` puts them together and
`pack` makes one string of the result, the only form in which a request is stored.

Pure: no Redis, no socket, no settings beyond the values passed in. Only `secrets` calls foreign
code, the application's resolver.
"""
