"""Policy: every decision, as a pure function of frozen values.

What an answer means (`outcome`), whether to try again (`retry`), when a batch is due (`flush`),
how fast to send (`stagger`), what memory leaves room for (`room`).

Time and randomness are arguments. Nothing here imports Redis, HTTP, Dramatiq or the settings.
"""
