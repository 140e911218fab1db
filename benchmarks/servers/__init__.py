"""The servers that the benchmarks measure: ours, and one file for each of the others."""
