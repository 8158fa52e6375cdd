"""Jobs on this machine or on Slurm: submitted, followed, judged."""
