"""The built-in demo, drawn on the spot."""
