"""Benchmarks of the operator against a real API server.

Every benchmark starts a control plane of its own and runs the operator as a process, as in production; quick ones share
one. Its time is set against a floor that is measured beside it in the same run: the same writes, made by bare aiohttp
requests. Absolute times tell about the machine; ratios tell about the operator.

    make bench                                    # all of them, for a long while
    QUICK=1 make bench                            # small ones, in less than four minutes
    make bench ARGS="fan-out --tenants 5000"      # some of them
"""
