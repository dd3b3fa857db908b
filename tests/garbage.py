"""Imported before all: garbage is looked for rarely. The libraries make millions of objects that stay, and to look
through them again and again took a fifth of the tests' processor time."""

import gc

gc.set_threshold(100_000, 20, 20)
