"""What others measured of a space: rows of architectures, columns of numbers. PLUG-IN FOLDER: one table per file.

A plug-in's `create(config)` gives a `Table`, read from `$NAS_DATA` or a path; nothing is downloaded. Flags: `space`
(the plug-in whose architectures it holds; empty where the file says), `files` (what it reads from `$NAS_DATA`).

Your own table needs no code: `file` reads one; see that module for its columns.
"""

from searchspaces import Registry
from searchspaces.tables._reading import decisions_of
from searchspaces.tables._table import Series, Table

REGISTRY: Registry[Table] = Registry("tables", "searchspaces.tables", {"space": str, "files": tuple})

__all__ = ["REGISTRY", "Series", "Table", "decisions_of"]
