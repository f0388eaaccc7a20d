"""Errors that a user can mend, told in one sentence."""


class UserError(ValueError):
    """Bad input: the message says what was wrong, where, and what to do.

    Entry points print the message without a traceback and exit with status 1.
    """


class Interrupted(Exception):
    """The run was asked to stop and its state is saved; the message says how to go on.

    Entry points print the message and exit with status 130.
    """
