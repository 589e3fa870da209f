"""What a user is told in one line."""

from slimspec.checkpoint import CheckpointError


class UserError(Exception):
    """The request cannot be carried out; the message is one line."""


__all__ = ["CheckpointError", "UserError"]
