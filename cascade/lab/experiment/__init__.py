"""Experiments as files: what to run, what was recorded, and the figures drawn from it.

`reading` turns a TOML file into `settings`; `trial` runs one point with one seed and writes down what
happened (`recording`); `campaign` runs them all, over the cores and resumably; `report` draws from the
records alone, and `checking` computes every figure of a run again from its raw lines.
"""
