"""The errors that R2 gives a number. `binding` puts the operation's name before and the number behind the message."""

from __future__ import annotations


class R2Error(Exception):
    """An operation was refused."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def internal_error() -> R2Error:
    return R2Error(10001, "We encountered an internal error. Please try again.")


def entity_too_small() -> R2Error:
    return R2Error(10011, "Your proposed upload is smaller than the minimum allowed object size.")


def metadata_too_large() -> R2Error:
    return R2Error(10012, "Your metadata headers exceed the maximum allowed metadata size.")


def invalid_object_name() -> R2Error:
    return R2Error(10020, "The specified object name is not valid.")


def invalid_max_keys(keys_max: int) -> R2Error:
    return R2Error(10022, f"MaxKeys params must be positive integer <= {keys_max}.")


def no_such_upload() -> R2Error:
    return R2Error(10024, "The specified multipart upload does not exist.")


def invalid_part() -> R2Error:
    return R2Error(10025, "One or more of the specified parts could not be found.")


def bad_digest(algorithm: str, given: str, actual: str) -> R2Error:
    return R2Error(
        10037,
        f"The {algorithm} checksum you specified did not match what we received.\n"
        f"You provided a {algorithm} checksum with value: {given}\nActual {algorithm} was: {actual}",
    )


def invalid_range() -> R2Error:
    return R2Error(10039, "The requested range is not satisfiable")


def bad_upload() -> R2Error:
    return R2Error(10048, "There was a problem with the multipart upload.")


def entity_too_large() -> R2Error:
    return R2Error(100100, "Your proposed upload exceeds the maximum allowed object size.")
