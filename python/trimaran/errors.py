"""What can go wrong, as a small tree. Each error says what failed, on what, and what to do; each has an exit code."""

from __future__ import annotations


class TrimaranError(Exception):
    """The root: a sentence for people. Bugs are not in this tree."""

    exit_code = 1


class ConfigError(TrimaranError):
    """A setting is wrong. Nothing was started."""

    exit_code = 2

    def __init__(self, file: str, key: str, value: object, expected: str) -> None:
        self.file = file
        self.key = key
        self.value = value
        self.expected = expected
        shown = f" = {value!r}" if value is not None else ""
        where = f"{file}: {key}{shown}" if key else file
        super().__init__(f"{where}: {expected}")


class ConfigErrors(ConfigError):
    """Several settings are wrong at once; each is told on a line of its own."""

    def __init__(self, errors: list[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.file, first.key, first.value, first.expected)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class AppError(TrimaranError):
    """The app cannot be imported or does not boot. The message ends with what the app itself said."""

    exit_code = 3


class PortInUse(TrimaranError):
    """An address is taken. Nothing was started."""

    exit_code = 4

    def __init__(self, address: str, hint: str) -> None:
        self.address = address
        super().__init__(f"cannot listen on {address}: {hint}")


class DatabaseError(TrimaranError):
    """A database node cannot be found, initialised, started or reached."""

    exit_code = 5


class NotRunning(TrimaranError):
    """No Trimaran runs for this configuration."""

    exit_code = 6


class PrepareError(TrimaranError):
    """A command of `prepare` failed. No server was started."""

    exit_code = 7
