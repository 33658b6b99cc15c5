"""The user's own text as tokens in a file: where documents come from, how they become ids, and where those are kept."""
