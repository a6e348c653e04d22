"""What kernels are compiled for, by what, and where the results are kept."""
