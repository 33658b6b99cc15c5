"""What is done with a checkpoint: adapting it, evaluating it, exporting it."""
