"""Realization where points are bounded: inputs in a domain, labels between two numbers."""
