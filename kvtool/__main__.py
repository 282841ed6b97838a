"""`python -m kvtool` and the `kvtool` script."""

__all__ = ["main"]


def main() -> None:
    """Run a command. Signals come first: what the command line imports takes longer than a hand
    takes to Ctrl-C.
    """
    # signal without its enumerations, which take milliseconds
    import _signal  # type: ignore[import-not-found]
    import sys

    # There is nothing to unwind yet: to end by the signal itself is quiet, and shells see 130 too.
    if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from kvtool.cli import signals

    try:
        signals.install()
        from kvtool.cli import app, streams

        streams.prepare()
        app.main()
    except BaseException:
        # A signal before the command's own net stands.
        exit_code = signals.received()
        if exit_code is None:
            raise
        signals.end()
        sys.exit(exit_code)


if __name__ == "__main__":
    main()
