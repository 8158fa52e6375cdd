"""Exports of labelling tools, read as they are: one file for each format.

A format is a module with two functions: ``find(export)`` gives the label files that are of it, and
``read(export, files, findings)`` what they say, as :class:`gol.data.imports.export.Labels`.

The readers are our own: the libraries that were looked at (supervision, datumaro, globox) lose what
matters here (they round polygons or read no masks; datumaro is heavy) and repair nothing.
"""
