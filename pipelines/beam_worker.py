"""A Beam worker process of this machine: ``python -m pipelines.beam_worker DRIVER``. Quiet, and gone soon after its driver is.

Beam's own worker tells standard error of every channel it opens, and outlives a driver that was killed: it could write into a
corpus that the next run has already begun anew.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

POLL_S = 0.2


def end_with(driver: int) -> None:
    """Ends this process soon after the process ``driver`` has ended."""

    def watch() -> None:
        while True:
            try:
                os.kill(driver, 0)
            except ProcessLookupError:
                os._exit(1)
            time.sleep(POLL_S)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Works until Beam says that there is no more to do."""
    end_with(int(sys.argv[1]))
    logging.disable(logging.WARNING)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv[:1])


if __name__ == "__main__":
    main()
