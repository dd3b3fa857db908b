"""Models of other libraries: open_clip's, transformers', sentence-transformers'.

Their folders come from strangers. A configuration file never decides a keyword argument of a library: `folder.py` reads
it through a list of fields with types and hands on nothing else, and ``trust_remote_code`` is False in every call.
"""
