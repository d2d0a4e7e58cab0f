"""cnnlab: a laboratory for convolutional networks in JAX and Flax."""
