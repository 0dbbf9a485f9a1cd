"""Endcap and its peers side by side: one split, one judge, the same cores. Start reading at `__main__`.

Each contestant runs as a process of its own, in the environment that it needs; `exchange` is what they have in common, so that
module and `watching` import nothing beyond numpy and Endcap's metrics.
"""
