"""Jobs that version 0.2.0 submitted name these classes here; to be removed after 0.3."""

from gol.cluster.tasks import Detection, Work

__all__ = ["Detection", "Work"]
