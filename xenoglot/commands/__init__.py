"""The program's commands: add a file here, and it is one.

A command file has a line of help, its options, and what it does; importing it must not import torch, numba or
matplotlib, so that help and completion answer at once.

```python
HELP = "say what there is"

def add_arguments(parser: argparse.ArgumentParser) -> None: ...
def run(arguments: argparse.Namespace) -> int: ...
```

A command whose options depend on other options (those of a family, say) also has
``add_more_arguments(parser, words)``, called with the words of the command line before they are read.
"""
