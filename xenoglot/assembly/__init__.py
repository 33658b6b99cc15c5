"""What a configuration means: its data, its tasks, and what must not have changed when a run goes on."""
