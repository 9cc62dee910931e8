"""A scenario for real: worker processes, real memory and the wall clock around ``ModelManager``.

``run`` is the edge. It mirrors ``simulation``: the same traffic, durations drawn from the same
streams, the same faults, the same result. What differs is that everything really happens.
"""
