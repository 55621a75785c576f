"""The command ``npnet`` in a process of its own, without the pictures: most of a short run's time."""

# Arguments of Python, before those of the command.
UNDRAWN = (
    "-c",
    "import npnet.runs.outcome, npnet.cli, sys;"
    "npnet.runs.outcome.draw = lambda *arguments: None;"
    "sys.exit(npnet.cli.main())",
)
