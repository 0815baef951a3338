"""Keeping: tables, every query, job transitions and leases, migrations."""

from db._lease import Lease
from db._registers import Counts, name_taken
from db._store import Store

__all__ = ["Counts", "Lease", "Store", "name_taken"]
