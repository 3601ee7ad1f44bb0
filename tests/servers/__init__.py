"""Tests of `trimaran.servers`."""
