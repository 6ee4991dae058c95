"""Delivery: one HTTP attempt, from the name lookup to the answer, within one deadline.

Other packages use `callback.AICallback`, and `shared_transport` for the process's connections.
Both use `adapter.GuardedAdapter`, which is public: applications mount it on their sessions.
A remote fault is an `Answer`, never an exception. It connects only to addresses that the guard
has checked.

It decides nothing about retries and knows nothing about Redis or Dramatiq.
"""
