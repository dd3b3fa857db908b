"""Statistics: pure functions of arrays, without torch and without files."""
