"""Every benchmark beside its peers, in one table: printed here, and written to its page with every result.

python -m benchmarks.gather
"""

from benchmarks.report import RESULTS, publish_peers


def main() -> None:
    """Prints it, and brings the page up to date."""
    print(publish_peers(RESULTS))


if __name__ == "__main__":
    main()
