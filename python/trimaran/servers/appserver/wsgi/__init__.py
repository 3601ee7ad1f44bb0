"""The app server for WSGI: each request is read, run and answered by one thread, without an event loop between.

The gateway is its only client. It has read each request (and its body, up to a limit) before it sends it, sends no more
at once than there are threads, and takes the response as fast as it can: so a thread may block on its connection.
Connections that wait for a request hold no thread.
"""

from .pool import Threads

__all__ = ["Threads"]
