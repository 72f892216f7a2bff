"""The ledger: every statement that gplconvex rests on, checked in three ways.

One statement, one module. Each says the statement in its docstring and has

- ``TITLE`` and ``SOURCE``: what it is called, and whose it is;
- ``symbolic()``: its algebraic heart, proved by a computer algebra system;
- ``numeric(rng)``: what was computed through the public interface beside what is claimed, on random
  instances;
- ``counterexample()``: the same with an assumption dropped, where the claim must fail;
- ``MUTATIONS``: constants of the claim, and a factor within 1 % of one which makes it false.

``python -m proofs_check`` prints them all.
"""

from proofs_check.ledger import Entry, Identity, Measurement, check, identity, statements

__all__ = ["Entry", "Identity", "Measurement", "check", "identity", "statements"]
