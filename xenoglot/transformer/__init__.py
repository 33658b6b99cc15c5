"""The parts of the decoder: blocks, what attention remembers, writing on, the loss of a large vocabulary."""
