"""Pure statistics: median, MAD, quantiles, intervals, when a percentile is established."""
