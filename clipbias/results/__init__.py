"""Results: the record of a run, its folder on disk, and what is read from finished runs."""
