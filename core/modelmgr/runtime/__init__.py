"""The manager for production: threads, a monotonic clock and real models over the scheduler."""
