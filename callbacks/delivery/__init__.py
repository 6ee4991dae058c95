"""Delivery: one HTTP attempt, from a name to an answer, within one deadline.

`callback.AICallback` is what others use, and `shared_transport` for the process's connections;
`adapter.GuardedAdapter` is below both, and public: it is mounted on sessions of applications.
A remote fault is an `Answer`, never an exception. Only addresses that the guard has checked are
connected to.

It decides nothing about retries and knows nothing of Redis or Dramatiq; the batcher does not
know it, either.
"""
