"""The batcher: QUEUE and PROCESSING in Redis, and all access to them.

Every change is one Lua script in `lua/` and one method of `store.Batcher`. `inspector` and
`audit` only read. Other packages use `Batcher`, `Inspector`, `overview`, `find` and `connect`;
they build no keys and run no scripts of their own.

It knows nothing about HTTP or Dramatiq: a request is bytes to it, an answer is `Feedback`.
"""
