"""The parts of the loop: devices, one update, the live line, requests to stop."""
