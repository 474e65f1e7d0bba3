"""Pictures, pairs, films and tables that this project draws: their truth is known because they were drawn from it.

`scenes`, `films` and `tables` decide what there is, by hash; `drawing` makes pixels of it; `sources` gives what a source is in
a corpus. `VERSION` rises whenever the same number would give another picture.
"""

VERSION = "1"
