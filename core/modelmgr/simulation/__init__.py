"""Pure: the virtual-time engine, virtual devices, faults, metrics, the offline bound."""
