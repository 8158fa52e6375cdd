"""Annotations: the LVIS schema, its checks, class statistics and the built-in demo."""
