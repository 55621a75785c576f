"""What can go wrong with a dataset: nothing to be had, a file that is not what it should be."""

__all__ = ["CorruptDatasetError", "DatasetUnavailableError", "DownloadError"]


class DatasetUnavailableError(OSError):
    """The dataset could be had nowhere; the text says what was tried and the ways out."""


class DownloadError(OSError):
    """Every source failed.

    Parameters
    ----------
    reasons : list of str
        One ``"address: what happened"`` for each source.
    """

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class CorruptDatasetError(ValueError):
    """A file is damaged or is something else; the text names it, what was expected and what came."""
