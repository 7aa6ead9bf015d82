"""How good flags are, by what is known about images: precision, recall, the false-alarm rate.

Labels and reviews rarely cover all images, and people review mostly what was flagged. A share of
the reviewed images is then not the share of all: nearly every normal image that was reviewed was
flagged, but few of all normal images are. So each share is of all images of a run. Where images
that nobody knows could change it, it has no value, only bounds that hold whatever they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import betaincinv

CONFIDENCE = 0.95


@dataclass(frozen=True)
class FlagCounts:
    """Images with a p-value, by flag and by what is known about them.

    Attributes
    ----------
    flagged_defect, flagged_normal, flagged_unknown : int
        Flagged images: known defects, known normal images, and those that nobody knows.
    passed_defect, passed_normal, passed_unknown : int
        The same of images that are not flagged.
    """

    flagged_defect: int = 0
    flagged_normal: int = 0
    flagged_unknown: int = 0
    passed_defect: int = 0
    passed_normal: int = 0
    passed_unknown: int = 0

    def __add__(self, other: FlagCounts) -> FlagCounts:
        """Return the counts of both."""
        return FlagCounts(*(a + b for a, b in zip(self.all, other.all, strict=True)))

    @property
    def all(self) -> tuple[int, ...]:
        """The counts, in the order of the attributes."""
        return tuple(vars(self).values())

    @property
    def flagged(self) -> int:
        """All flagged images."""
        return self.flagged_defect + self.flagged_normal + self.flagged_unknown

    def precision(self) -> Share | None:
        """Return the share of defects among flagged images; None if no image is flagged."""
        return _share(self.flagged_defect, self.flagged_normal, either=self.flagged_unknown)

    def recall(self) -> Share | None:
        """Return the share of defects that are flagged; None if no defect is known.

        Any image that nobody knows may be a defect.
        """
        if not self.flagged_defect + self.passed_defect:
            return None
        return _share(
            self.flagged_defect,
            self.passed_defect,
            for_part=self.flagged_unknown,
            for_rest=self.passed_unknown,
        )

    def false_alarm_rate(self) -> Share | None:
        """Return the share of normal images that are flagged; None if there is none.

        Images that are not flagged count as normal unless a label or review says otherwise. Each
        missed defect among them makes the rate too low by less than its share of the images. So
        it is enough to review all flagged images.
        """
        passed = self.passed_normal + self.passed_unknown
        return _share(self.flagged_normal, passed, for_part=self.flagged_unknown)


@dataclass(frozen=True)
class Share:
    """A share of images, with its interval.

    Attributes
    ----------
    part, whole : int
        Counts of the images that are known.
    share : float or None
        ``part / whole``; None if images that nobody knows could change it.
    low, high : float
        Bounds that hold the share with at least 95 % confidence: the ends of the exact interval of
        Clopper and Pearson (1934), with the unknown images counted at each end in the worst way.
    """

    part: int
    whole: int
    share: float | None
    low: float
    high: float

    def describe(self) -> str:
        """Return the share with its interval; only the interval if the share is not known.

        Examples
        --------
        >>> Share(2, 20, 0.1, 0.0123, 0.317).describe(), Share(2, 20, None, 0.0123, 1.0).describe()
        ('10 % (1.23 to 31.7 %)', '1.23 to 100 %')
        """
        bounds = f"{100 * self.low:.3g} to {100 * self.high:.3g} %"
        return bounds if self.share is None else f"{100 * self.share:.3g} % ({bounds})"


@dataclass(frozen=True)
class FlagFigures:
    """How good the flags of a run or of a group are.

    Images that the model was fitted on do not count: their p-values are not those of new images.

    Attributes
    ----------
    counts : FlagCounts
        Images by flag and by what is known about them.
    precision, recall, false_alarm_rate : Share or None
        Defects among the flagged images; flagged ones among the defects; flagged ones among the
        normal images.
    promised : float or None
        The false-alarm rate that the rule promises: the highest flagged p-value, averaged over
        images. None if it promises none, as ``review``.
    """

    counts: FlagCounts
    precision: Share | None
    recall: Share | None
    false_alarm_rate: Share | None
    promised: float | None = None

    @classmethod
    def of(cls, counts: FlagCounts, promised: float | None) -> FlagFigures:
        """Return the figures of counts."""
        shares = (counts.precision(), counts.recall(), counts.false_alarm_rate())
        return cls(counts, *shares, promised)

    @property
    def operating(self) -> tuple[float, float] | None:
        """Point on a ROC: false-alarm rate and recall; None if one is only bounded."""
        rate, recall = self.false_alarm_rate, self.recall
        if rate is None or recall is None or rate.share is None or recall.share is None:
            return None
        return rate.share, recall.share

    def describe(self) -> list[str]:
        """Return flagged images, precision, recall, false-alarm rate and the promised one."""
        shares = (self.precision, self.recall, self.false_alarm_rate)
        return [
            f"{self.counts.flagged:,}",
            *("-" if share is None else share.describe() for share in shares),
            "-" if self.promised is None else f"{100 * self.promised:.3g} %",
        ]


def binomial_interval(part: int, whole: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of Clopper and Pearson for a share `part` of `whole` trials.

    Examples
    --------
    >>> low, high = binomial_interval(0, 100)
    >>> low, round(high, 4)
    (0.0, 0.0362)
    """
    tail = (1 - confidence) / 2
    low = float(betaincinv(part, whole - part + 1, tail)) if part else 0.0
    high = float(betaincinv(part + 1, whole - part, 1 - tail)) if part < whole else 1.0
    return low, high


def _share(
    part: int, rest: int, *, either: int = 0, for_part: int = 0, for_rest: int = 0
) -> Share | None:
    """Return the share of a part; None if there is nothing at all.

    Unknown images may belong to `either` of both, or to the part or not at all (`for_part`), or to
    the rest or not at all (`for_rest`).
    """
    whole, unknown = part + rest, either + for_part + for_rest
    if not whole + unknown:
        return None
    low, _ = binomial_interval(part, whole + either + for_rest)
    _, high = binomial_interval(part + either + for_part, whole + either + for_part)
    share = part / whole if whole and not unknown else None
    return Share(part, whole, share, low, high)
