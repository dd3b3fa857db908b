"""Readers of the public benchmark data sets, one small file each."""
