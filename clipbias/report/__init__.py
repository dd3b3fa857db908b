"""The reporter: reads run folders, never a model; writes figures, tables and a page."""
