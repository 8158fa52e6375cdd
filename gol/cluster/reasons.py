"""Why Slurm lets a job wait, and what helps where waiting may never end."""

import re

#: Slurm's reasons, as regular expressions, to what the user can do.
_REMEDIES = {
    r"JobHeldAdmin": "an administrator holds it: ask them",
    r"held|JobHoldMaxRequeue": "`scontrol release {job}` lets it go",
    r"BadConstraints": "no node has what it asks for: Ctrl-C, then another constraint, "
    "gpus_per_node, cpus_per_task or mem_mb",
    r"PartitionTimeLimit|MaxWallDuration": "it asks for more time than is allowed: Ctrl-C, then a "
    "shorter runtime or another slurm_partition",
    r"PartitionNodeLimit|Max(Node|Cpu|CPU|GRES|Mem|Memory|TRES)\w*PerJob": "it asks for more than "
    "one job may have: Ctrl-C, then fewer nodes, GPUs or cores",
    r"ReqNodeNotAvail|DOWN, DRAINED|NodeDown|PartitionDown|PartitionInactive": "nodes are down, "
    "drained or reserved: `sinfo -R` says why, and it starts when they are back",
    r"InvalidAccount|AccountNotAllowed|InvalidQOS|QOSNotAllowed": "Ctrl-C, then another "
    "slurm_account or qos",
    r"(Assoc|QOS)\w*(Minutes|RunMin|Billing)": "the account's budget is used up: another "
    "slurm_account, or ask for more",
}


def pending(job: str, reason: str) -> str:
    """What to say of a job that waits.

    Args:
        job: its id.
        reason: squeue's, which may end in details.
    """
    known = reason.replace("_", " ")
    for pattern, advice in _REMEDIES.items():
        if re.search(pattern, known, re.IGNORECASE):
            return f"job {job} is pending ({known}): {advice.format(job=job)}"
    return f"job {job} is pending ({reason})"
