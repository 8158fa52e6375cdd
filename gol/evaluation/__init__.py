"""Detections in, numbers out."""
