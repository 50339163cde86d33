"""Deterministic simulation: one seed is one history of the real scheduler among faults. See `__main__.py`.

What decides is the product's own (scheduler, gate, model, reports, requests, policies, feed). What lies outside is
fake, and outlives a crash of the server as the real outside does: the disk of the log, the processes, the repository,
the clocks and the people.
"""
