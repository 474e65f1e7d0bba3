"""Which ranks share what: data groups, sequences and experts over the ranks of a run, and what does not go together.

Decided here: W ranks are W / N data groups of N neighbours, which share one packed sequence (sequence parallelism), and W / E
expert groups of E neighbours, which share the experts; the two divisions do not depend on each other. ZeRO divides its state
over all W ranks whatever they share, because a parameter's gradient is the sum over all of them.
"""

from __future__ import annotations

from manifests.errors import UsageError
from model.config import ModelConfig
from trainer.launch import Launch


def require_plan(launch: Launch, *, ranks: int, zero_stage: int, config: ModelConfig) -> None:
    """Nothing, when this many ranks can train this model that way.

    Raises:
        UsageError: with the choices that do not go together, and what would.
    """
    sequence, expert = launch.sequence_parallel, launch.expert_parallel
    experts = config.decoder.moe.experts
    for option, value in (("--sequence-parallel", sequence), ("--expert-parallel", expert)):
        if ranks % value:
            raise UsageError(f"{option} {value} does not divide the {ranks} ranks of this run")
    if experts % expert:
        raise UsageError(f"--expert-parallel {expert} does not divide the {experts} experts of a layer")
    if expert > 1 and zero_stage not in (1, 2):
        raise UsageError(
            f"--expert-parallel {expert} goes with ZeRO 1 or 2, not {zero_stage}: ZeRO 3 would divide over all ranks weights "
            "that differ from rank to rank, ZeRO 0 would average them; give --zero 1"
        )
    if sequence > 1:
        raise UsageError(f"--sequence-parallel {sequence}: not yet")
    if expert > 1:
        raise UsageError(f"--expert-parallel {expert}: not yet")
