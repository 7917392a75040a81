"""Holds any implementation of docs/WIRE.md to it. A second opinion: the standard library, nothing of ours."""
