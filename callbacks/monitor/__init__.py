"""The monitor: reports the state of the system, for people and for programs.

`snapshot` reads sizes and totals at one instant; `health` judges them, `metrics` exports them. For
`doctor`, `probes` read, and the checks judge what was read and advise.

It changes nothing in Redis, and does not print or serve: that is for `cli` and `web`.
"""
