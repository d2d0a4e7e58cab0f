"""Networks: pure Flax modules, one file per paper."""
