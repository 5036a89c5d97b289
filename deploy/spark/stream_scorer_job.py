"""What spark-submit runs: the command line of stream-scorer, whose arguments follow."""

from stream_scorer.cli import main

main()
