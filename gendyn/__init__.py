"""gendyn: learn a stochastic process from data, run it, and know how far to trust it."""
