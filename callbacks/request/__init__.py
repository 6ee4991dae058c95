"""The request: what a receiver gets, checked and frozen at enqueue.

Envelope, headers, URL and destination, signature, secrets. `freeze` puts them together and `pack`
serializes the result, the only form in which a request is stored.

Pure: no Redis, no sockets, no settings but the values passed in. Only `secrets` calls outside
code, the application's resolver.
"""
