"""The servers of ours that the benchmarks measure."""
