"""Side-by-side measurements: each prints its figures against their goals."""
