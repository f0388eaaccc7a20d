"""The one exception that stands for a user's mistake."""


class UserError(ValueError):
    """Bad input: the message says in one sentence what was wrong, where, and what to do.

    Entry points print the message and exit with status 2, without a traceback.
    """
