"""Training and detection: the loop, the ranks, checkpoints, preemption."""
