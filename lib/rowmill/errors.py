"""What can go wrong, each as one sentence: what is wrong, what was found, and the next step."""


class RowmillError(Exception):
    """The root of all errors that are shown to a user.

    Args:
        what: The clause that says what is wrong and names the value.
        found: What was found instead; left out of the sentence when empty.
        step: The next step, as an imperative clause.
    """

    def __init__(self, what: str, *, found: str = "", step: str) -> None:
        clauses = [what, f"found {found}" if found else "", step]
        super().__init__("; ".join(clause for clause in clauses if clause) + ".")

    def _render_traceback_(self) -> list[str]:
        """Show only the sentence where IPython would print a traceback."""
        return [f"{type(self).__name__}: {self}"]


class SettingsError(RowmillError):
    """`rowmill.toml` or a `ROWMILL_*` variable cannot be used."""


class ParameterError(RowmillError):
    """A notebook parameter or an argument is unknown or of the wrong kind."""


class PipelineError(RowmillError):
    """`pipeline.yaml` declares what cannot be run, or a step did not make what it must."""


class SourceError(RowmillError):
    """A source of examples is missing, broken or contradicts itself."""


class WarehouseError(RowmillError):
    """The warehouse refuses, or cannot be reached."""


class NotFoundError(RowmillError):
    """An id is not on record; the sentence lists its neighbours."""


class BusyError(RowmillError):
    """Somebody else does this right now, or holds what it needs."""


class HeldError(BusyError):
    """Another process holds a lock of this machine."""


class IntegrityError(RowmillError):
    """Bytes, answers or records differ from what was registered."""


class EndpointError(RowmillError):
    """A served model does not answer, or answers something that cannot be used."""


class SearchError(RowmillError):
    """A search ended without a model."""


class TargetError(EndpointError):
    """The place that serves refuses a command, or cannot be reached."""
