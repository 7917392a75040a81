"""firstseen in Python: an observer, a server and statistics that share wire, tables and vectors with the Go ones."""

__version__ = "0.1.0"
