"""Finding files: by vector, by text, by example, filtered by attributes.

:mod:`~vexfs.search.catalog` has the indexes of a volume, :mod:`~vexfs.search.index` one of them and how records get in,
:mod:`~vexfs.search.query` how they are found.
"""
