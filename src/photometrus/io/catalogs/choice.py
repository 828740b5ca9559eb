"""Which survey to calibrate a field with, from footprints and depths: no network is needed."""

from dataclasses import dataclass

from photometrus import systems
from photometrus.errors import UsageError, nearest
from photometrus.io.catalogs.footprints import coverage
from photometrus.io.catalogs.quality import FAMILIES
from photometrus.io.catalogs.surveys import SURVEYS, Reach, Survey

BANDS = ("Z", "Y", "J", "H")
FAINT, BRIGHT = 17.0, 12.5
"""PRIME's calibrators: brighter stars saturate, fainter ones say little (Vega, any band)."""
DEEPER = 1.0
"""How much brighter than the 5 sigma depth a catalogue's stars must be to calibrate: S/N 12."""
COVERED = 0.95
"""A field is covered when this fraction of it is."""


@dataclass(frozen=True)
class Choice:
    """A survey that can calibrate a field.

    coverage : fraction of the field in the survey's footprint
    directness : 0 the band itself; 1 another telescope's optical filter of that letter; 2 a
        published transform from other bands
    useful : fraction of the calibrators' range of magnitudes in which the survey is neither
        saturated nor too shallow
    everywhere : False where only a part of the survey's field was observed in this band, so that
        the next survey may have to be taken
    """

    survey: str
    coverage: float
    directness: int
    useful: float
    everywhere: bool
    reach: Reach

    @property
    def words(self) -> str:
        """One line for a log."""
        how = ("", ", a filter of that letter", ", transformed")[self.directness]
        part = "" if self.everywhere else ", in part of its field"
        return f"{self.survey}: {100 * self.coverage:.0f} % of the field{how}{part}"


def choose_surveys(band: str, ra_deg: float, dec_deg: float, radius_deg: float) -> list[Choice]:
    """The surveys that cover a circle on the sky in a band of PRIME, best first.

    What covers the field goes before what covers a part of it; then the band itself before a
    neighbour before a transform; then what is useful over most of the calibrators' magnitudes (to
    a tenth); then the order of `SURVEYS`, which is that of depth and of the observers' trust.

    Raises UsageError for a band that PRIME has not.
    """
    if band not in BANDS:
        raise UsageError(f"band {band!r}: known are {', '.join(BANDS)}{nearest(band, BANDS)}")
    choices = []
    for survey in SURVEYS.values():
        found = reach_of(survey, band)
        if found is None:
            continue
        directness, reach = found
        fraction = coverage(survey.name, ra_deg, dec_deg, radius_deg)
        if fraction > 0.0:
            choices.append(
                Choice(survey.name, fraction, directness, _useful(reach), reach.everywhere, reach)
            )
    return sorted(choices, key=_badness)  # stable: the order of SURVEYS decides among equals


def _badness(choice: Choice) -> tuple[bool, float, int, float]:
    whole = choice.coverage >= COVERED
    part = 0.0 if whole else -choice.coverage
    return (not whole, part, choice.directness, -round(choice.useful, 1))


def reach_of(survey: Survey, band: str) -> tuple[int, Reach] | None:
    """How directly a survey has a band (see `Choice`) and how deep; None when it cannot."""
    if band in survey.reach:
        optical = FAMILIES[survey.family].system == "AB"
        return (1 if optical else 0), survey.reach[band]
    transform = systems.transform_for(FAMILIES[survey.family].system, band)
    if transform is None:
        return None
    return 2, survey.reach[transform.base]


def _useful(reach: Reach) -> float:
    overlap = min(FAINT, reach.depth - DEEPER) - max(BRIGHT, reach.bright)
    return max(0.0, overlap / (FAINT - BRIGHT))
