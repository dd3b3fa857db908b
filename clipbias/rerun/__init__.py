"""Running a record again, and holding results against what was published."""
