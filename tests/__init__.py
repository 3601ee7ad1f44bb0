"""Tests of Trimaran. The tree mirrors `python/trimaran`; nothing here is mocked that can be real."""
