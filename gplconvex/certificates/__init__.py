"""Certificates: guaranteed bounds for any point, and the check of a claim. Imports no solver."""

from gplconvex.certificates.certificate import Certificate, Check
from gplconvex.certificates.judge import certify, verify

__all__ = ["Certificate", "Check", "certify", "verify"]
