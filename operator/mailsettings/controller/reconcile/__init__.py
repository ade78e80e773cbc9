"""One reconciler for each kind of work: gather, decide with the pure core, act, report.

Every trigger, from a changed spec to a finished probe, leads here and nowhere else. What is decided depends only on
the present state, never on which event came; so a missed, doubled or reordered event does no harm.
"""
