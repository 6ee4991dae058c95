"""The batcher: QUEUE and PROCESSING in Redis, and everything that is read from or written there.

Every change is one Lua script in `lua/`, and one method of `store.Batcher`. `inspector` and
`audit` only read. Others use `Batcher`, `Inspector`, `overview`, `find` and `connect`; they
build no key and run no script of their own.

It knows nothing of HTTP or Dramatiq: a request is bytes to it, an answer is `Feedback`.
"""
