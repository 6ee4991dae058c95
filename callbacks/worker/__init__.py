"""The worker: everything that runs inside Dramatiq's processes.

`duties` are the passes that dispatch, recover, expire and trim; `attempt` is the way of one
callback from its message to its outcome. Around them: our broker and consumer, the ticker, the
watchdog. The actors call the duties; so do commands and tests.

It combines batcher, delivery and policy, and holds no state that a crash may not lose.
"""
