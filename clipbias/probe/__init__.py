"""Probes: perturb captions, encode, rank, and say what changed and how surely."""
