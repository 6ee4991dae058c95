"""A model of the whole system in virtual time: seeded, and held against the real one.

Whatever the package decides in Python is not copied but called: `policy`, the duties of
`worker.duties`, the ticker's `worker.rounds`, `batcher.pacer`, `batcher.routes`, `consumer.Pace`,
and the constants that `batcher.store` hands to its scripts. What is decided in Lua is modelled
here, in methods that have the names of the files in `callbacks/batcher/lua`: `shard` (claim, begin,
settle, ...), `turns`, `feedback`, `home`. Redis, Dramatiq, workers and receivers are modelled too.

What is left out is listed in docs/scaling.md, "Simulated".
"""
