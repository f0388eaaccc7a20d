"""Errors that a user can mend, told in one sentence."""

import errno
import os

STOPPED = "Stopped: the same command goes on from the last finished stage."
"""What entry points say where they are told to stop and no loop saves the step that it is at."""


class UserError(ValueError):
    """Bad input: the message says what was wrong, where, and what to do.

    Entry points print the message without a traceback and exit with status 1.
    """


class Interrupted(Exception):
    """The run was asked to stop and its state is saved; the message says how to go on.

    Entry points print the message and exit with status 130.
    """


def no_room(error: BaseException) -> str | None:
    """The system's words for a full disk if that is what an error comes from, else None.

    Libraries wrap the system's error in types of their own and keep its words.
    """
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        words = os.strerror(number)
        if getattr(error, "errno", None) == number or words in str(error):
            return words
    return None
