"""Beam's options on our command line: a misspelt one is refused, where Beam itself would drop it with a warning."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any

from manifests.errors import UsageError


def refuse_unknown(options: Sequence[str]) -> None:
    """Checks that every ``--name=value`` is an option of the installed Beam.

    Raises:
        UsageError: one is not; the message names the nearest. Also when a value is missing or of the wrong kind.
    """
    from pipelines.running import quiet

    with quiet():
        from apache_beam.options.pipeline_options import PipelineOptions

    parser: Any = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve", exit_on_error=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)  # the hook by which every options class, users' own included, declares its flags
    try:
        _, unknown = parser.parse_known_args(list(options))
    except (argparse.ArgumentError, SystemExit) as error:
        raise UsageError(f"Beam does not accept {' '.join(options)}: {error}") from error
    for option in unknown:
        name = option.split("=", 1)[0]
        known = [flag for action in parser._actions for flag in action.option_strings]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        guess = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"unknown option {name}: neither longreel's nor Beam's{guess}")
