"""One manager for all processes of a machine: its server, and the client that stands for it.

Bottom up: ``descriptors`` (how many there are), ``framing`` (bytes and memory), ``messages`` (what
is said), ``faults`` (errors by name), ``workers.shared_arrays`` (large arrays); then ``places``,
``peers``, ``quotas``, ``acceptor``, ``catalogue``, ``sessions``, ``holders``, ``connection`` and
``server`` on the one side, ``dialling``, ``link``, ``remote_lease`` and ``client`` on the other.
"""
