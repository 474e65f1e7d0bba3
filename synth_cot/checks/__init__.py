"""The three checks: the question before it is asked, the answer against a truth recomputed apart, the steps one by one."""
