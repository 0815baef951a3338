"""How the schema came to be what `db/_models.py` says: one file in `versions` for every change, never edited again."""
