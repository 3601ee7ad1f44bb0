"""Tests of the app server launcher: real child processes on real Unix sockets."""
