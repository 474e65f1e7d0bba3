"""The few errors this project raises on purpose, each with the exit code the command line ends with.

Anything else that escapes is a defect; the front door prints it as one line and asks for ``--debug``.
"""

from __future__ import annotations


class LongreelError(Exception):
    """A failure a user can act on. The message says the value, where it came from and what to do."""

    exit_code = 1


class UsageError(LongreelError):
    """The request itself is wrong: an unknown recipe or field, a path that is not there."""

    exit_code = 2


class OtherPlanError(UsageError):
    """A training run belongs to another plan than the corpus has now."""


class LossLimitError(LongreelError):
    """The work was done, but more was lost than the limit allows."""

    exit_code = 3


class CostMismatchError(LongreelError):
    """A sample does not render to the tokens its manifest row counts."""


class CorruptCorpusError(LongreelError):
    """A file of the corpus is missing or is not the file that was written."""
