"""One manager for all processes of a machine: its server, and the client that stands for it.

Bottom up: ``framing`` (bytes and descriptors), ``messages`` (what is said), ``faults`` (errors by
name), ``workers.shared_arrays`` (large arrays); then ``places``, ``peers``, ``catalogue``,
``sessions``, ``holders``, ``connection`` and ``server`` on the one side, ``dialling``, ``link``,
``remote_lease`` and ``client`` on the other.
"""
