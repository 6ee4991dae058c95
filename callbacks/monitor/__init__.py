"""The monitor: what is going on, for people and for programs.

`snapshot` is the whole at one instant; `health` judges it, `metrics` exports it. For `doctor`,
`probes` read, and the checks judge what was read and advise.

It changes nothing in Redis, and neither prints nor serves: that is for `cli` and `web`.
"""
