"""Typed splits with digests and stable sample ids. PLUG-IN FOLDER: one data set, or format, per file.

A plug-in's `create(config)` gives a `Dataset`; nothing is ever downloaded. Files are looked for where the config says,
else in the folder `$NAS_DATA`.
"""

from nas.datasets._assemble import digest_of_splits
from nas.datasets._dataset import Dataset, Split, stratified_split
from searchspaces import Registry, data_file

REGISTRY: Registry[Dataset] = Registry("datasets", "nas.datasets")

__all__ = ["REGISTRY", "Dataset", "Split", "data_file", "digest_of_splits", "stratified_split"]
