"""Exports of labelling tools, read as they are: one file for each format.

A format is a module with two functions: ``find(export)`` gives the label files that are of it, and
``read(export, files, findings)`` what they say, as :class:`gol.data.imports.export.Labels`.

The readers are our own: of the libraries that read such files, supervision loses masks and classes
without objects, globox reads boxes alone, and datumaro rounds polygons and needs dozens of packages;
none repairs what it reads or says what it left out.
"""
