"""The page: one file that needs no network, from results to facts, charts, captions and HTML."""
