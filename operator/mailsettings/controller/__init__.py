"""When to do it: watches, the work queue and the reconcilers."""
